"""`compare`, `record-gif` and `report`: the results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shaperun.cli.app import RESULTS, command
from shaperun.cli.options import (
    Arms,
    AsJson,
    OptionalStudies,
    OptionalStudy,
    Quiet,
    StudyOptions,
    describe_best_study,
    flatten_options,
    one_of,
    parse_integer,
    split_names,
)
from shaperun.common.errors import UserError

if TYPE_CHECKING:
    from shaperun.runs.study_folder import StudyFolder


@command(rich_help_panel=RESULTS)
@flatten_options
def compare(
    studies: OptionalStudies = None,
    *,
    options: StudyOptions,
    by: Annotated[
        str, typer.Option(metavar="METRIC", help="Metric to rank and judge arms by.")
    ] = "return",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare the arms on the environment's own reward, or by a metric: table, verdicts, curves.

    Values are interquartile means over runs with 95% intervals; with two runs the interval is
    their range.

    Several studies need the same environment and final episodes; all arms are then compared with
    the baseline of the first study. Arms that differ only in their seeds are pooled; different
    arms of the same name are distinguished by a hash.

    Example: shaperun compare first.yaml second.yaml --by success_rate
    """
    from shaperun.analysis import comparison
    from shaperun.cli import comparison_table
    from shaperun.cli.console import SafeConsole, print_json
    from shaperun.runs.study_folder import writing

    names: list[str | None] = [*studies] if studies else [None]
    opened = [options.open(name, quiet=quiet) for name in names]
    _ensure_distinct(studies or [], [study.study for study, _ in opened])
    target = comparison.comparison_folder(opened)
    console = SafeConsole(stderr=False)
    with writing(target):
        result = comparison.compare_studies(opened, by)
        if not as_json:
            comparison_table.print_comparison(result, console)
            for name, (study, folder) in zip(names, opened, strict=True):
                if study.sweep and folder.sweep.exists():
                    note = _note_on_trials(name or study.study, folder, options)
                    console.print(note, style="dim", soft_wrap=True)
            sys.stdout.flush()  # drawing the figures takes another few seconds
        from shaperun.report import files

        paths = files.write_comparison(result, target)
    if as_json:  # only now: a document is followed by no error
        print_json(result.document())
    elif not quiet:
        console.print(f"\nFigures and tables: {target} ({len(paths)} files)", style="dim")


def _ensure_distinct(given: list[str], names: list[str]) -> None:
    """Check that studies have different names.

    Raises:
        UserError: two have the same.
    """
    for index, name in enumerate(names):
        first = names.index(name)
        if first == index:
            continue
        if given[first] == given[index]:
            raise UserError(f"{given[index]} is given twice; name it once")
        raise UserError(
            f"{given[first]} and {given[index]} are both called {name}; change the key study of one"
        )


def _note_on_trials(study: str, folder: StudyFolder, options: StudyOptions) -> str:
    text = f"\nTrials of a sweep are not arms. To rank them: {options.command('report', study)}"
    return "\n".join([text, *describe_best_study(folder, options)])


RunSeed = Annotated[
    int | None,
    typer.Option(
        parser=parse_integer, metavar="SEED", help="Only runs with this seed (default: all)."
    ),
]

EpisodeSeed = Annotated[
    int | None,
    typer.Option(
        parser=parse_integer,
        metavar="SEED",
        help="Show the held-out episode with this seed (default: the first). Seeds are in "
        "captions and in evaluations.csv.",
    ),
]

Format = Annotated[
    Literal["gif", "mp4", "webp"],
    typer.Option(
        "--format",
        parser=one_of("gif", "mp4", "webp"),
        metavar="FORMAT",
        help="gif, mp4 or webp (mp4 needs shaperun\\[mp4]).",
    ),
]

Pick = Annotated[
    Literal["best", "median", "worst", "failure"] | None,
    typer.Option(
        parser=one_of("best", "median", "worst", "failure"),
        metavar="RULE",
        help="best, median, worst or failure: show that final episode of each arm (failure: its "
        "median failure, leaving out arms without failures).",
    ),
]


@command(rich_help_panel=RESULTS)
@flatten_options
def record_gif(
    study: OptionalStudy = None,
    *,
    options: StudyOptions,
    arms: Arms = None,
    seed: RunSeed = None,
    pick: Pick = None,
    episode_seed: EpisodeSeed = None,
    kind: Format = "gif",
    quiet: Quiet = False,
) -> None:
    """Record the policies: one GIF per arm, and one of all arms side by side.

    For a sweep, the best trial is shown next to the study's arms; use --arms to pick others.

    Episodes are chosen by a rule from those recorded at the end of training. By default each arm
    shows its median run on the first held-out episode, which has the same start for all arms. Below
    the picture, one bar per term shows the term's cumulative reward.

    --pick chooses among all final episodes of all runs of an arm, by environment return. Starts and
    runs then differ between arms; captions name them. File names end in the choice: ARM-worst.gif,
    side-by-side-worst.gif.

    Example: shaperun record-gif --pick worst --format mp4
    """
    from shaperun.analysis.results import LoadedRuns
    from shaperun.cli.console import SafeConsole
    from shaperun.report.record_gif import EpisodeChoice, record_gifs
    from shaperun.runs.study_folder import writing
    from shaperun.search.progress import add_trial_arms

    names = split_names(arms, "--arms")
    opened, folder = options.open(study, quiet=quiet)
    loaded = LoadedRuns(folder)
    with writing(folder.gifs):
        paths = record_gifs(
            add_trial_arms(opened, loaded, names),
            loaded,
            arms=names,
            choice=EpisodeChoice(seed, episode_seed, pick),
            kind=kind,
            log=SafeConsole(quiet=quiet).print,
        )
    for path in paths:
        typer.echo(path)


def _name_file(study: str | None, options: StudyOptions) -> str:
    """Return the name of the study file; empty if none is given, or it has other contents."""
    return Path(study).name if study and Path(study).is_file() and not options.overrides else ""


@command(rich_help_panel=RESULTS)
@flatten_options
def report(
    study: OptionalStudy = None,
    *,
    options: StudyOptions,
    static: Annotated[
        bool, typer.Option("--static", help="Leave out JavaScript: curves become pictures.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a self-contained HTML report: verdicts, curves, films, exploits, diagnostics.

    The report needs no network and no other file, so it can be mailed, printed and archived.
    """
    from shaperun.cli.console import SafeConsole
    from shaperun.common.files import write_atomically
    from shaperun.report.data import load_report_data
    from shaperun.report.page import render_page
    from shaperun.runs.study_folder import writing

    opened, folder = options.open(study, quiet=quiet)
    console = SafeConsole(quiet=quiet)
    with writing(folder.report):
        with console.status("Reading runs and filming policies…"):
            data = load_report_data(opened, folder, console.print, _name_file(study, options))
            text = render_page(data, static=static)
        write_atomically(folder.report, text.encode())
    typer.echo(folder.report)
