"""Arguments and options that several commands share."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import wraps
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from shaperun.common.errors import UserError
from shaperun.common.text import escape_control_chars, format_command

if TYPE_CHECKING:
    from shaperun.rewards.config import RewardConfig
    from shaperun.runs.plan import Run
    from shaperun.runs.study_folder import StudyFolder
    from shaperun.study.models import Study

# typer's own messages on refused values differ between its versions.


def parse_integer(text: object) -> int:
    """Return an integer of at least 0."""
    try:
        value = int(str(text))
    except ValueError:
        value = -1
    if value < 0:
        raise typer.BadParameter(f"found {text}, expected an integer of at least 0")
    return value


def parse_number(text: object) -> float:
    """Return a finite number of at least 0."""
    try:
        value = float(str(text))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"found {text}, expected a finite number of at least 0")
    return value


def parse_folder(text: object) -> Path:
    """Return the path of a folder."""
    if not str(text).strip():
        raise typer.BadParameter("expected a folder")
    return Path(str(text))


def one_of(*names: str) -> Callable[[object], str]:
    """Return a parser that accepts these names."""

    def parse(text: object) -> str:
        if text not in names:
            raise typer.BadParameter(f"found {text}, expected one of {', '.join(names)}")
        return str(text)

    return parse


StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Study file, or the name of a trained study.")
]
OptionalStudy = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="Study file or name (default: the most recently trained study).",
        show_default=False,
    ),
]
OptionalStudies = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY",
        help="Study files or names (default: the most recently trained study).",
        show_default=False,
    ),
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="Only these arms, separated by commas (default: all).",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and results.")]
Results = Annotated[
    Path,
    typer.Option(
        parser=parse_folder,
        metavar="FOLDER",
        help="Folder that holds the results of all studies.",
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Run Python code that the study names, such as module:function."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@dataclass(frozen=True)
class StudyOptions:
    """Options that find and open a study."""

    results: Results = Path("results")
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of the study, such as seeds=3; may be repeated.",
        ),
    ] = field(default_factory=list)
    allow_code: AllowCode = False

    def open(self, study: str | None, *, quiet: bool = False) -> tuple[Study, StudyFolder]:
        """Open a study by its file or name, or else the most recently trained one.

        Unless `quiet`, the latter is named on stderr.

        Raises:
            UserError: the study does not exist, or its file is invalid.
        """
        from shaperun.runs.open_study import find_latest_study, open_study

        name = find_latest_study(self.results) if study is None else study
        if study is None and not quiet:
            text = f"Study: {name}, the most recently trained in {self.results}"
            typer.echo(escape_control_chars(text), err=True)
        return open_study(name, self.results, self.overrides, allow_code=self.allow_code)

    def command(self, verb: str, study: str | Path) -> str:
        """Return a command on a study with these options, quoted for a shell."""
        options = [] if self.results == StudyOptions.results else ["--results", str(self.results)]
        options += [word for text in self.overrides for word in ("--set", text)]
        options += ["--allow-code"] if self.allow_code else []
        return format_command(verb, study, *options)


@dataclass(frozen=True)
class TrainingArguments:
    """Options that select runs and say how to train them."""

    arms: Arms = None
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="0,1",
            help="Only these seeds, separated by commas (default: all).",
            show_default=False,
        ),
    ] = None
    workers: Annotated[
        int,
        typer.Option(
            parser=parse_integer, metavar="N", help="Number of parallel workers (0: one per core)."
        ),
    ] = 0
    executor: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How runs are executed: processes, inline (in this process), or ray (on a Ray "
            "cluster; needs shaperun\\[ray]).",
        ),
    ] = "processes"
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs without training them.")
    ] = False
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Delete these runs and train them again from scratch."),
    ] = False
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete without asking (with --fresh).")
    ] = False
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Write TensorBoard event files while training (needs shaperun\\[tensorboard]).",
        ),
    ] = False
    quiet: Quiet = False

    def select_runs(self, study: Study, arms: Mapping[str, RewardConfig]) -> list[Run]:
        """Return the runs that --arms and --seeds select.

        Raises:
            UserError: an arm or a seed is unknown.
        """
        from shaperun.runs.plan import plan_runs

        texts = split_names(self.seeds, "--seeds")
        try:
            seeds = [int(seed) for seed in texts]
        except ValueError:
            given = ",".join(texts)
            raise UserError(f"--seeds {given}: expected integers, such as 0,1,2") from None
        return plan_runs(study, arms, split_names(self.arms, "--arms"), seeds)


def command_line(*, without: str = "") -> str:
    """Return the command as it was typed, quoted for a shell; `without` one of its flags."""
    return shlex.join(["shaperun", *(word for word in sys.argv[1:] if word != without)])


def describe_best_study(folder: StudyFolder, options: StudyOptions) -> list[str]:
    """Return how to train the best trial of a sweep against the baseline, if it is written."""
    best = folder.sweep / "best.yaml"
    command = replace(options, overrides=[]).command("train", best)
    text = f"To compare the best trial with the baseline on fresh seeds: {command}"
    return [text] if best.exists() else []


def split_names(given: Sequence[str] | None, option: str) -> list[str]:
    """Return the names of an option that lists them with commas, and may be repeated.

    Raises:
        UserError: a name is empty.
    """
    names = [name.strip() for text in given or () for name in text.split(",")]
    if not all(names):
        text = ",".join(given or ())
        raise UserError(f"{option} {shlex.quote(text)}: expected names separated by commas")
    return names


def flatten_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of each of its dataclass parameters.

    typer reads the signature of a command; without this, shared options would be repeated in each.
    Lines within a paragraph of its help are joined, so that they fill the terminal.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {n: hint for n, hint in hints.items() if is_dataclass(hint)}
    plain = [p for p in signature(command).parameters.values() if p.name not in groups]
    options = {name: list(_options(group)) for name, group in groups.items()}

    @wraps(command)
    def call(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{option.name: given.pop(option.name) for option in options[name]})
        if not given.get("as_json"):
            return command(**given)
        from shaperun.cli.console import only_json_on_stdout  # rich is slow to import

        with only_json_on_stdout():
            return command(**given)

    parameters = [
        *(p.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in plain),
        *(option for group in options.values() for option in group),
    ]
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__doc__ = re.sub(r"(?<!\n)\n(?![\n-])", " ", cleandoc(command.__doc__ or ""))
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _options(group: type[Any]) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for item in fields(group):
        default = item.default if item.default_factory is MISSING else item.default_factory()
        hint = hints[item.name]
        yield Parameter(item.name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
