"""The commands: one short function each. What is heavy is imported inside the function."""

from __future__ import annotations

import difflib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shaperun.common.errors import UserError
from shaperun.common.text import visible

if TYPE_CHECKING:
    from rich.console import Console

    from shaperun.check.check import Check
    from shaperun.envs.base import Environment
    from shaperun.preferences.answers import AnswerSheet
    from shaperun.preferences.fit import Fit, NetworkFit
    from shaperun.rewards.config import RewardConfig
    from shaperun.runs.driver import RunStatus
    from shaperun.runs.plan import Run
    from shaperun.runs.run_folder import StudyFolder
    from shaperun.search.trials import Trial
    from shaperun.study.models import Arm, Study

FINE, SOME_FAILED, WRONG, BUG, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Did this reward help, by how much, and what did the agent learn to exploit?\n\n"
    "shaperun trains policies on the rewards of a study file and judges them all on the "
    "environment's own reward. Begin with: shaperun init, shaperun train study.yaml, "
    "shaperun compare.",
    epilog="Every command takes --debug, which shows the traceback of an error.",
)

StudyArgument = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="A study file, or the name of a study already trained."),
]
OptionalStudy = Annotated[
    str, typer.Argument(metavar="[STUDY]", help="As for train; absent: the study trained last.")
]
OptionalStudies = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STUDY]…", help="One, as for train, or several; absent: the study trained last."
    ),
]
Results = Annotated[Path, typer.Option(help="Folder that holds the studies' results.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the study, such as training.total_timesteps=50_000.",
    ),
]
Arms = Annotated[str, typer.Option(metavar="A,B", help="Only these arms.")]
SeedList = Annotated[str, typer.Option(metavar="0,1", help="Only these seeds.")]
Workers = Annotated[int, typer.Option(min=0, help="Runs at a time; 0: one a core.")]
Executor = Annotated[
    str,
    typer.Option(
        help="How runs are executed: in processes, inline, or on a ray cluster; that needs the "
        "extra shaperun\\[ray].",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the runs and train nothing.")]
TensorBoard = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        help="Write TensorBoard event files of the runs that are trained now; needs the extra "
        "shaperun\\[tensorboard].",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete these runs and train them anew.")]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="Run Python code that the study names (module:function, module:Environment-v0).",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

RESULTS = Path("results")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write the study file.")] = Path(
        "study.yaml"
    ),
) -> None:
    """Write a commented starter study that runs as it is."""
    from importlib.resources import files

    from shaperun.common.files import write_atomically

    if path.exists():
        raise UserError(f"{path} exists already; name another file")
    try:
        write_atomically(path, files("shaperun.study").joinpath("starter.yaml").read_bytes())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"Wrote {path}. Train it: shaperun train {path}")


@app.command()
def check(
    study: StudyArgument,
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    allow_code: AllowCode = False,
    arms: Arms = "",
    difference: Annotated[
        float | None,
        typer.Option(min=0, help="The smallest difference in environment return that matters."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if anything was found.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what each arm's reward pays for, before anything is trained.

    Hand-written controllers, doing nothing and acting at random are played once; every reward is
    applied to what they did. Takes seconds.
    """
    from shaperun.runs.open_study import open_study
    from shaperun.study.loader import StudyError

    try:
        opened, folder = open_study(study, results, overrides, allow_code=allow_code)
    except StudyError as error:
        if as_json:
            _print_json({"study": study, "errors": error.problems, "warnings": [], "rankings": {}})
        raise
    with _console(quiet=quiet or as_json).status("Playing controllers…"):
        found = _checked(opened, folder, _names(arms), difference)
    if as_json:
        _print_json(found.document())
    else:
        _show_check(found, folder, quiet=quiet)
    raise typer.Exit(SOME_FAILED if strict and found.findings else FINE)


def _show_check(found: Check, folder: StudyFolder, *, quiet: bool) -> None:
    from shaperun.cli import check_table
    from shaperun.report.plots import check as check_plots

    console = _console(stderr=False)
    check_table.show(found, console)
    _say_of_search(found, console)
    _written(lambda: check_plots.write(found, folder.check), folder)
    if not quiet:
        console.print(f"\nFigures: {folder.check}", style="dim")


def _say_of_search(found: Check, console: Console) -> None:
    """Say which of the weights that are searched were looked at."""
    from shaperun.search.corners import MOST_WEIGHTS, corner_arms

    corners = corner_arms(found.study).keys() & found.paid.keys()
    if not corners or not found.study.sweep:
        return
    weights = found.study.sweep.weights
    what = (
        f"the {len(corners)} corners of their ranges"
        if len(weights) <= MOST_WEIGHTS
        else f"{len(corners)} points, a weight at an end of its range and the others in the middle"
    )
    trials = found.paid.keys() - found.study.arms.keys() - corners
    best = f" and the best of the trials so far ({', '.join(sorted(trials))})" if trials else ""
    console.print(
        f"\nOf the weights that are searched ({', '.join(weights)}), {what}{best} were checked; "
        "what the search finds between may pay otherwise.",
        style="dim",
    )


def _checked(study: Study, folder: StudyFolder, only: list[str], difference: float | None) -> Check:
    from shaperun.analysis import results
    from shaperun.check.check import check_study
    from shaperun.runs.plan import planned_runs
    from shaperun.search.arms import sweep_arms

    arms = study.arms | (sweep_arms(study) if study.sweep else {}) | _of_search(study, folder)
    runs = planned_runs(study, arms, only)
    arms = {name: arm for name, arm in arms.items() if not only or name in only}
    spread = results.spread_between_runs(folder, runs, study.environment.describe())
    return check_study(study, arms, difference=difference, spread=spread)


def _of_search(study: Study, folder: StudyFolder) -> dict[str, Arm]:
    """What stands for a search: the corners of its ranges, and the best of what it has tried."""
    from shaperun.search.corners import corner_arms
    from shaperun.search.progress import best_arms

    corners = corner_arms(study)
    try:
        return corners | (best_arms(study, folder) if corners else {})
    except UserError:  # trials of another search say nothing of this one
        return corners


@app.command()
def preview(
    study: StudyArgument,
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006
    allow_code: AllowCode = False,
) -> None:
    """Write a page in which every weight can be moved and the ranking seen. Needs no network."""
    from shaperun.check.preview import page
    from shaperun.common.files import write_atomically
    from shaperun.runs.open_study import open_study

    opened, folder = open_study(study, results, overrides, allow_code=allow_code)
    with _console().status("Playing and filming controllers…"):
        text = page(opened)

    def write() -> list[Path]:
        write_atomically(folder.preview, text.encode())
        return [folder.preview]

    typer.echo(_written(write, folder)[0])


@app.command()
def ask(
    study: StudyArgument,
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Write a page that asks which of two episodes is better, and fits weights to the answers.

    Its episodes are those of hand-written controllers, of chance, and of the policies that the
    study has trained so far. It needs no network; the answers are saved from the page as a small
    file for shaperun fit.
    """
    from shaperun.common.files import write_atomically
    from shaperun.preferences.page import page
    from shaperun.runs.open_study import open_study

    opened, folder = open_study(study, results, overrides, allow_code=allow_code)
    console = _console(quiet=quiet)

    def write() -> list[Path]:
        with console.status("Playing and filming episodes…") as status:

            def watch(played: int, of: int) -> None:
                status.update(f"Playing and filming episode {played} of {of}…")

            text = page(opened, folder, console.print, watch)
        write_atomically(folder.ask, text.encode())
        return [folder.ask]

    typer.echo(_written(write, folder)[0])


@app.command()
def fit(
    answers: Annotated[Path, typer.Argument(help="The file that was saved from the page of ask.")],
    into: Annotated[
        Path | None,
        typer.Option(metavar="STUDY", help="Add the arm to this study file, and check it there."),
    ] = None,
    name: Annotated[str, typer.Option(help="What the arm is to be called.")] = "fitted",
    network: Annotated[
        bool,
        typer.Option(
            "--network", help="Let a small network of the state learn what the terms leave open."
        ),
    ] = False,
    results: Results = RESULTS,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Fit the weights of a reward to answers which of two episodes was better.

    Prints the weights with intervals, how many answers they foresee that they do not know, what
    the answers leave open, and the arm as it stands in a study file.
    """
    from shaperun.cli import fit_table
    from shaperun.preferences import answers as sheets
    from shaperun.preferences import arm as fitted
    from shaperun.preferences import fit as preferences
    from shaperun.runs.open_study import open_study

    if into and not into.is_file():
        raise UserError(f"{into}: there is no such file to add an arm to")
    fitted.check_name(name)
    sheet = sheets.read(answers)
    opened = open_study(str(into), results, allow_code=allow_code) if into else None
    if opened:
        fitted.check_name(name, opened[0].arms)
        sheets.refuse_another(sheet, opened[0])
    found = preferences.fit(sheet)
    learned = _network(sheet, found, quiet=as_json) if network else None
    arm = fitted.arm(found, learned)
    if into:
        fitted.add(into, name, arm)
    if as_json:
        _print_json(preferences.document(found, sheet, learned) | {"arm": {name: arm}})
        return
    console = _console(stderr=False)
    fit_table.show(found, learned, sheet, name, arm, console)
    if not into:
        console.print(f"\nAdd it to a study: shaperun fit {answers} --into STUDY", style="dim")
        return
    console.print(f"\nAdded to {into}. What it pays:\n", style="dim")
    study, folder = open_study(str(into), results, allow_code=allow_code)
    from shaperun.cli import check_table

    check_table.show(_checked(study, folder, [name], None), console)


def _network(sheet: AnswerSheet, found: Fit, *, quiet: bool) -> NetworkFit:
    from shaperun.preferences import network as preference_network

    with _console(quiet=quiet).status("Fitting networks…") as status:

        def watch(done: int, of: int) -> None:
            status.update(f"Fitting networks to parts of the answers: {done} of {of}…")

        return preference_network.fit(sheet, found, watch)


@app.command()
def train(
    study: StudyArgument,
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    allow_code: AllowCode = False,
    arms: Arms = "",
    seeds: SeedList = "",
    workers: Workers = 0,
    executor: Executor = "processes",
    dry_run: DryRun = False,
    fresh: Fresh = False,
    tensorboard: TensorBoard = False,
    quiet: Quiet = False,
) -> None:
    """Train every arm with every seed, in parallel; go on where an earlier command stopped."""
    from shaperun.runs.open_study import open_study

    opened, folder = open_study(study, results, overrides, allow_code=allow_code)
    runs = _select(opened, opened.arms, arms, seeds)
    failed = _train(
        opened,
        folder,
        runs,
        workers,
        executor,
        dry_run=dry_run,
        fresh=fresh,
        quiet=quiet,
        tensorboard=tensorboard,
    )
    if failed < len(runs) and not (dry_run or quiet):
        where = "" if results == RESULTS else f" --results {results}"
        typer.echo(f"See what they learned: shaperun compare {opened.study}{where}", err=True)
    raise typer.Exit(SOME_FAILED if failed else FINE)


def _select(study: Study, arms: Mapping[str, RewardConfig], only: str, seeds: str) -> list[Run]:
    from shaperun.runs.plan import planned_runs

    try:
        only_seeds = [int(seed) for seed in seeds.split(",") if seed]
    except ValueError:
        raise UserError(f"--seeds {seeds}: expected whole numbers with commas between") from None
    return planned_runs(study, arms, _names(only), only_seeds)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _train(
    study: Study,
    folder: StudyFolder,
    runs: list[Run],
    workers: int,
    executor: str,
    *,
    dry_run: bool,
    fresh: bool,
    quiet: bool,
    tensorboard: bool,
    whole_sweep: bool = False,
) -> int:
    """Train the runs, or all that the sweep comes to, or list them; returns how many failed."""
    from shaperun.cli import progress
    from shaperun.runs import driver

    if dry_run:
        _console(stderr=False).print(progress.plan_table(study, folder, runs))
        return 0
    console = _console(quiet=quiet)
    execute_jobs, parallel = driver.executor(executor, workers), driver.parallel(executor, workers)
    if whole_sweep:
        from shaperun.search import (
            driver as search,  # with polars, which plain training does not need
        )

        search.refuse_another(folder)
    accelerated = [t for run in runs if (t := run.config.training).device != "cpu"]
    if accelerated and executor != "ray":
        from shaperun.training.sb3_model import check_device  # torch takes a second

        check_device(accelerated[0])
    driver.prepare(study, folder, runs, fresh=fresh, tensorboard=tensorboard)
    introduce = progress.introduce_sweep if whole_sweep else progress.introduce
    introduce(study, runs, console)
    # A polite kill is an interrupt: the workers are stopped, and we say how to go on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if whole_sweep:
        states = search.drive(
            study, folder, execute_jobs, workers=parallel, fresh=fresh, tensorboard=tensorboard
        )
    else:
        states = driver.drive(folder, runs, execute_jobs, workers=parallel, tensorboard=tensorboard)
    with closing(states):
        try:
            if not quiet and any(not folder.run(run.arm, run.seed).is_done() for run in runs):
                _warn(study, runs, console)
            end = progress.follow(states, console)
        except KeyboardInterrupt:
            states.close()
            trained = search.known_runs(study, folder) if whole_sweep else runs
            progress.say_interrupted(folder, trained, _command_line())
            raise typer.Exit(INTERRUPTED) from None
    return progress.say_end(folder, end, console)


def _warn(study: Study, runs: list[Run], console: Console) -> None:
    """Say what `check` has to say of these rewards; training goes on whatever that is."""
    from shaperun.check.check import check_study
    from shaperun.cli import check_table

    arms = {run.arm: run.config.reward for run in runs}
    try:
        with console.status("Checking what these rewards pay…"):
            found = check_study(study, arms)
    except UserError as error:
        console.print(f"these rewards could not be checked: {error}", style="yellow")
        return
    check_table.show_headlines(found.findings, study.study, console)


@app.command()
def sweep(
    study: StudyArgument,
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006
    allow_code: AllowCode = False,
    arms: Arms = "",
    seeds: SeedList = "",
    workers: Workers = 0,
    executor: Executor = "processes",
    dry_run: DryRun = False,
    fresh: Fresh = False,
    tensorboard: TensorBoard = False,
    quiet: Quiet = False,
) -> None:
    """Search the weights of an arm, ranked by the environment's own reward, and confirm the best.

    Goes on where an earlier command stopped; with more samples in the study, it adds trials. The
    best weights are trained again with fresh seeds before they are called best, unless only some
    arms or seeds are asked for.
    """
    from shaperun.runs.open_study import open_study
    from shaperun.search.trials import rewards

    opened, folder = open_study(study, results, overrides, allow_code=allow_code)
    trials = _known_trials(opened, folder, fresh=fresh)
    runs = _select(opened, rewards(opened, trials), arms, seeds)
    failed = _train(
        opened,
        folder,
        runs,
        workers,
        executor,
        dry_run=dry_run,
        fresh=fresh,
        quiet=quiet,
        tensorboard=tensorboard,
        whole_sweep=not (arms or seeds),
    )
    if not dry_run:
        _rank(opened, folder, quiet=quiet)
    raise typer.Exit(SOME_FAILED if failed else FINE)


def _known_trials(study: Study, folder: StudyFolder, *, fresh: bool) -> list[Trial]:
    from shaperun.search.trials import known_trials

    try:
        return known_trials(study, folder)
    except UserError:
        if study.sweep and fresh:  # whatever stands there is to be deleted
            return []
        raise


def _rank(study: Study, folder: StudyFolder, *, quiet: bool) -> None:
    from shaperun.cli import comparison_table
    from shaperun.search import ranking

    found = ranking.rank(study, folder)
    _written(lambda: ranking.write(found, folder), folder)
    console = _console(stderr=False)
    comparison_table.show_ranking(found, console)
    if not quiet:
        console.print(f"\nFigures and ranking: {folder.sweep}", style="dim")


@app.command()
def status(
    study: OptionalStudy = "",
    results: Results = RESULTS,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Show which runs are done, running, interrupted, failed and waiting."""
    from shaperun.cli import progress
    from shaperun.runs import driver
    from shaperun.runs.open_study import last_trained, open_study
    from shaperun.runs.plan import planned_runs

    opened, folder = open_study(study or last_trained(results), results, allow_code=allow_code)
    planned = planned_runs(opened, opened.arms)
    runs = [driver.status(folder, run, by_size=True) for run in planned]
    swept = _sweep_states(opened, folder) if opened.sweep else []
    if as_json:
        _print_json(progress.status_document(opened, [*runs, *swept]))
    else:
        console = _console(stderr=False)
        console.print(progress.run_table([*runs, *swept]))
        if opened.sweep:
            _say_what_remains(opened, folder, swept, console)


def _say_what_remains(
    study: Study, folder: StudyFolder, states: list[RunStatus], console: Console
) -> None:
    if all(run.state == "waiting" for run in states):
        console.print(f"The sweep is not begun: shaperun sweep {study.study}", style="dim")
        return
    from shaperun.search.progress import remaining  # which reads evaluations, with polars

    parts = remaining(study, folder, states)
    left = f"{', '.join(parts)}. Go on: shaperun sweep {study.study}" if parts else "nothing"
    console.print(f"Left of the sweep: {left}", style="dim")


def _sweep_states(study: Study, folder: StudyFolder) -> list[RunStatus]:
    from shaperun.runs import driver
    from shaperun.search.trials import known_trials, runs_of

    trials = known_trials(study, folder)
    if not any(folder.has(trial.arm) for trial in trials):
        return [driver.status(folder, run) for run in runs_of(study, trials, study.seeds)]
    from shaperun.search import driver as search  # which reads evaluations, with polars

    return search.standing(study, folder)


@app.command()
def compare(
    studies: OptionalStudies = None,
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006
    allow_code: AllowCode = False,
    by: Annotated[str, typer.Option(help="The metric to rank arms by.")] = "return",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare the arms on the environment's own reward: table, verdicts, curves.

    Figures are interquartile means over runs with 95% intervals; with two runs these reach from
    the lower to the higher, where the median lies in half of all cases.

    Of several studies, on the same environment and final episodes, all arms are compared with the
    first study's baseline. Arms that are the same but for their seeds are one arm; arms of the
    same name that are not are told apart by a hash.
    """
    from shaperun.analysis import comparison
    from shaperun.cli import comparison_table
    from shaperun.runs.open_study import last_trained, open_study

    opened = [
        open_study(name, results, overrides, allow_code=allow_code)
        for name in studies or [last_trained(results)]
    ]
    target = comparison.target(opened)
    found = comparison.compare_studies(opened, by)
    console = _console(stderr=False)
    if as_json:
        _print_json(found.document())
    else:
        comparison_table.show(found, console)
        for study, folder in opened:
            if study.sweep and folder.sweep.exists():
                console.print(_about_trials(study, folder), style="dim")
    sys.stdout.flush()  # the answer is there; drawing takes as long again

    def write() -> list[Path]:
        from shaperun.report import files as comparison_files

        return comparison_files.write(found, target)

    paths = _written(write, opened[0][1])
    if not (as_json or quiet):
        console.print(f"\nFigures and tables: {target} ({len(paths)} files)", style="dim")


def _about_trials(study: Study, folder: StudyFolder) -> str:
    text = f"\nThe trials of the sweep are no arms of {study.study}: shaperun report ranks them."
    best = folder.sweep / "best.yaml"
    if not best.exists():
        return text
    return f"{text} {best} compares the best with the baseline, on fresh seeds."


@app.command()
def record_gif(
    study: OptionalStudy = "",
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006
    allow_code: AllowCode = False,
    arms: Arms = "",
    seed: Annotated[
        int | None,
        typer.Option(help="The runs to choose from, by their seed; absent: all that are finished."),
    ] = None,
    pick: Annotated[
        Literal["best", "median", "worst", "failure"] | None,
        typer.Option(
            help="Show each arm's best, median or worst final episode, or its median failure; "
            "arms that never failed are left out."
        ),
    ] = None,
    episode_seed: Annotated[
        int | None,
        typer.Option(
            help="Show this held-out episode, by its seed: the column seed of a run's "
            "evaluations.csv, and in every caption. Absent: the first."
        ),
    ] = None,
    kind: Annotated[
        Literal["gif", "mp4", "webp"],
        typer.Option("--format", help="Format of the files; mp4 needs the extra shaperun\\[mp4]."),
    ] = "gif",
    quiet: Quiet = False,
) -> None:
    """Record what the policies do: one GIF an arm, and all arms side by side.

    Of a sweep the best trial is shown beside the study's own arms; --arms names others.

    Episodes are chosen by rule among those recorded at the end of training. By default every arm
    shows its median run on the first held-out episode, which is the same start for all arms. Below
    the picture a bar for each term grows with what the term has paid the learner so far.

    --pick chooses for each arm one of all final episodes of its runs, by environment return, so
    that starts and runs differ between arms, and every caption names them. Its files are called
    after it: ARM-worst.gif, side-by-side-worst.gif.
    """
    from shaperun.report.record_gif import Wish, record_gifs
    from shaperun.runs.open_study import last_trained, open_study
    from shaperun.search.progress import with_trials

    wish = Wish(seed, episode_seed, pick)

    opened, folder = open_study(
        study or last_trained(results), results, overrides, allow_code=allow_code
    )
    console = _console(quiet=quiet)
    paths = _written(
        lambda: record_gifs(
            with_trials(opened, folder, _names(arms)),
            folder,
            arms=_names(arms),
            wish=wish,
            kind=kind,
            tell=console.print,
        ),
        folder,
    )
    for path in paths:
        typer.echo(path)


@app.command()
def report(
    study: OptionalStudy = "",
    results: Results = RESULTS,
    overrides: Overrides = [],  # noqa: B006
    allow_code: AllowCode = False,
    static: Annotated[
        bool, typer.Option("--static", help="Leave out JavaScript: the curves become a picture.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write one page that tells all: verdicts, curves, behaviour, exploits, health, provenance.

    It needs no network and no other file, so it can be mailed, printed and kept.
    """
    from shaperun.common.files import write_atomically
    from shaperun.report.data import gather
    from shaperun.report.page import page
    from shaperun.runs.open_study import last_trained, open_study

    opened, folder = open_study(
        study or last_trained(results), results, overrides, allow_code=allow_code
    )
    console = _console(quiet=quiet)

    def write() -> list[Path]:
        with console.status("Reading the runs and filming the policies…"):
            text = page(gather(opened, folder, console.print), static=static)
        write_atomically(folder.report, text.encode())
        return [folder.report]

    typer.echo(_written(write, folder)[0])


def _written(write: Callable[[], list[Path]], folder: StudyFolder) -> list[Path]:
    try:
        return write()
    except OSError as error:
        raise UserError(f"cannot write into {folder.path}: {error.strerror}") from None


@app.command()
def terms(
    environment: Annotated[
        str,
        typer.Argument(
            metavar="[ENV]",
            help="Any environment of gymnasium, such as LunarLander-v3; those with terms of "
            "their own if absent.",
        ),
    ] = "",
) -> None:
    """List what can be weighed on an environment, and the names that formulas may use."""
    from shaperun.cli import progress
    from shaperun.envs.builtin import environments
    from shaperun.rewards.expression import FUNCTIONS

    console = _console(stderr=False)
    for known in [_described(environment)] if environment else environments().values():
        console.print(progress.term_table(known), "")
    functions = ", ".join(sorted(FUNCTIONS))
    console.print(f"functions in formulas: {functions}", style="dim")


def _described(env_id: str) -> Environment:
    from shaperun.envs.builtin import environments
    from shaperun.envs.generic import UnfitEnvironmentError, UnknownEnvironmentError, describe

    try:
        if ":" in env_id:
            raise UserError(f"{env_id} names code; name an environment that is installed")
        return describe(env_id)
    except UnknownEnvironmentError as error:
        close = difflib.get_close_matches(env_id, error.known, n=1)
        ours = ", ".join(environments())
        hint = f"; did you mean {close[0]}?" if close else f"; there are {ours}, and gymnasium's"
        raise UserError(f"there is no environment named {env_id}{hint}") from None
    except UnfitEnvironmentError as error:
        raise UserError(f"{env_id} cannot be used: {error}") from None


@app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from shaperun.study.schema import json_schema

    _print_json(json_schema())


def _print_json(document: object) -> None:
    typer.echo(visible(json.dumps(document, indent=2, ensure_ascii=False)))


def _console(*, stderr: bool = True, quiet: bool = False) -> Console:
    from shaperun.cli.console import Terminal

    return Terminal(stderr=stderr, quiet=quiet)


def _command_line() -> str:
    return " ".join(["shaperun", *sys.argv[1:]])


def main() -> None:
    """Run the command line; every error becomes one message and its exit status."""
    debug = "--debug" in sys.argv
    sys.argv[:] = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except UserError as error:
        _fail(str(error), WRONG, debug=debug)
    except SystemExit as end:
        # typer answers Ctrl-C by itself, and silently; training has said more by then.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            _fail(f"interrupted; the same command begins again: {_command_line()}", INTERRUPTED)
        raise
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FINE)
    except Exception as error:
        name = type(error).__name__
        hint = "" if debug else "; --debug shows where"
        _fail(f"this is a bug in shaperun: {name}: {error}{hint}", BUG, debug=debug)


def _fail(message: str, status: int, *, debug: bool = False) -> None:
    if debug:
        message = traceback.format_exc() + message
    print(visible(message), file=sys.stderr)
    sys.exit(status)
