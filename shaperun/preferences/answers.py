"""The answers of somebody who was shown pairs of episodes: what `ask` lets save and `fit` reads."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, FiniteFloat, ValidationError, field_validator

from shaperun.check.behaviours import MAX_EPISODE_STEPS
from shaperun.common.errors import UserError
from shaperun.common.files import parse_json, read_regular
from shaperun.common.validation import Model
from shaperun.envs.base import Array
from shaperun.study.models import Study

FORMAT = "shaperun answers 1"
_MAX_BYTES = 50_000_000
_BUILT_IN = "built in"

MOMENTS = 24  # of an episode, at which the page keeps the state
MAX_WIDTH = 64  # numbers of an observation that is kept

Choice = Literal["left", "right", "equal", "unsure"]
PREFERRED = {"left": 1.0, "right": 0.0, "equal": 0.5}
"""How far an answer is for the left episode; of one that is unsure nothing is known."""


class EpisodeSummary(Model):
    """An episode that somebody may be asked about.

    `sums` are the terms' values over its steps, Σ γ^t c(s_t, a_t, s_t+1), and `undiscounted` the
    same without γ; `discounted` and `env_return` are the two of the environment's reward. `states`
    are what was observed in the middle of each of its `parts`; none where that is too much, or no
    measurement.
    """

    start: Annotated[int, Field(ge=0)]  # what the environment was reset with
    by: str
    outcome: str
    length: Annotated[int, Field(ge=1, le=MAX_EPISODE_STEPS)]
    env_return: FiniteFloat
    discounted: FiniteFloat
    sums: list[FiniteFloat]
    undiscounted: list[FiniteFloat]
    states: list[list[FiniteFloat]]


class Subject(Model):
    """What the sums of an episode depend on: they say nothing of a study where it is another."""

    environment: dict[str, Any]
    gamma: FiniteFloat
    terms: dict[str, Any]

    @classmethod
    def from_study(cls, study: Study) -> Subject:
        """What a study would have its episodes summed up by."""
        environment = study.environment.describe()
        # In the kernel's order. The environment's own reward is none of them: the question is what
        # else could be paid for.
        terms = {
            **dict.fromkeys(environment.terms, _BUILT_IN),
            **{name: _plain_definition(term) for name, term in study.terms.items()},
            **dict.fromkeys(environment.outcomes, _BUILT_IN),
        }
        config = study.environment.model_dump(mode="json", include={"id", "options"})
        return cls(environment=config, gamma=study.training.gamma, terms=terms)


def _plain_definition(term: Any) -> Any:
    return term if isinstance(term, str) else term.model_dump(mode="json")


class Answer(Model):
    """Which of two episodes was better, by their places."""

    left: Annotated[int, Field(ge=0)]
    right: Annotated[int, Field(ge=0)]
    answer: Choice


class AnswerSheet(Model):
    """A file of answers. `table` is the JSON of the episodes, as it stood in the page."""

    format: Literal["shaperun answers 1"]
    study: str
    subject: Subject
    table: str
    digest: str
    answers: list[Answer]

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, value: str) -> str:
        rows = parse_json(value.encode())
        for row in rows if isinstance(rows, list) else [None]:
            EpisodeSummary.model_validate(row)
        return value

    @cached_property
    def episodes(self) -> list[EpisodeSummary]:
        """The episodes by their place."""
        return [EpisodeSummary.model_validate(row) for row in json.loads(self.table)]

    @property
    def terms(self) -> list[str]:
        """The terms by their place in `sums`."""
        return list(self.subject.terms)

    @property
    def sums(self) -> tuple[Array, Array]:
        """Of every episode and term, with γ and without (episodes, K)."""
        return sums(self.episodes)

    @property
    def width(self) -> int:
        """How many numbers a state of an episode is; 0 where none were kept."""
        return max((len(state) for e in self.episodes for state in e.states), default=0)

    def compared(self) -> tuple[npt.NDArray[np.intp], Array]:
        """The pairs (n, 2) that were told apart or called equal, and how far for the left (n,)."""
        told = {
            (a.left, a.right): PREFERRED[a.answer] for a in self.answers if a.answer in PREFERRED
        }
        pairs = np.array(list(told), dtype=np.intp).reshape(-1, 2)
        return pairs, np.array(list(told.values()))

    def counts(self) -> Counter[str]:
        """How many answers there are of each kind."""
        return Counter(answer.answer for answer in self.answers)


def table(episodes: Sequence[EpisodeSummary]) -> str:
    """The JSON of episodes, as it is shown to the page and comes back with the answers."""
    rows = [episode.model_dump() for episode in episodes]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sums(episodes: Sequence[EpisodeSummary]) -> tuple[Array, Array]:
    """Of every episode and term, with γ and without (episodes, K)."""
    return (
        np.array([episode.sums for episode in episodes], dtype=np.float64),
        np.array([episode.undiscounted for episode in episodes], dtype=np.float64),
    )


def parts(length: int) -> list[npt.NDArray[np.intp]]:
    """The steps of an episode, cut into `MOMENTS` parts that follow each other."""
    return np.array_split(np.arange(length), min(MOMENTS, length))


def digest(text: str) -> str:
    """What tells a table from one in which something was changed."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_answers(path: Path) -> AnswerSheet:
    """The answers of a file.

    Raises:
        UserError: it cannot be read, or is not what a page saved; the message says why.
    """
    try:
        data = read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    found = parse_json(data)
    if found is None:
        raise UserError(
            f"{path} is no whole JSON file, perhaps it was cut off; save the answers again"
        )
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(
            f"{path} holds no answers; they come from the page that shaperun ask writes"
        )
    try:
        sheet = AnswerSheet.model_validate(found)
    except (ValidationError, ValueError) as error:
        raise UserError(f"{path} is not as the page saved it: {_first(error)}") from None
    problem = _problem(sheet)
    if problem:
        raise UserError(f"{path}: {problem}")
    return sheet


def ensure_same_study(sheet: AnswerSheet, study: Study) -> None:
    """Make sure that answers are about a study.

    Raises:
        UserError: its episodes would be summed up otherwise; the message says in what.
    """
    asked, here = sheet.subject, Subject.from_study(study)
    for name in Subject.model_fields:
        there, own = getattr(asked, name), getattr(here, name)
        if there != own:
            raise UserError(
                f"the answers are about another study, {sheet.study}: its {name} is "
                f"{_shown(there)}, and that of {study.study} is {_shown(own)}"
            )
    size = study.environment.describe().observation_size
    if sheet.width not in (0, size):
        raise UserError(
            f"the answers are about observations of {sheet.width} numbers, and those of "
            f"{study.environment.id} have {size}"
        )


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _first(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _problem(sheet: AnswerSheet) -> str | None:
    """What a page would never have saved; None where there is nothing."""
    if digest(sheet.table) != sheet.digest:
        return "its episodes were changed after the page had saved them; take the file it saved"
    counts = {len(own) for e in sheet.episodes for own in (e.sums, e.undiscounted)}
    if counts - {len(sheet.terms)}:
        return "its episodes have other terms than it names"
    if any(not _has_its_states(episode, sheet.width) for episode in sheet.episodes):
        return "its episodes have other states than their lengths ask for"
    seen: dict[frozenset[int], str] = {}
    for place, answer in enumerate(sheet.answers, start=1):
        pair = frozenset((answer.left, answer.right))
        if len(pair) < 2 or max(pair) >= len(sheet.episodes):
            return f"answer {place} is about no pair of its {len(sheet.episodes)} episodes"
        one, other = (sheet.episodes[episode] for episode in pair)
        if one.start != other.start:
            return f"answer {place} is about two episodes that begin in different states"
        choice = _left_preference(answer)
        if seen.setdefault(pair, choice) != choice:
            return f"answer {place} contradicts an earlier one about the same two episodes"
    return None


def _has_its_states(episode: EpisodeSummary, width: int) -> bool:
    count = min(MOMENTS, episode.length) if width else 0
    return [len(state) for state in episode.states] == [width] * count


def _left_preference(answer: Answer) -> str:
    """An answer as if the episode with the lower number had stood on the left."""
    if answer.answer in ("left", "right") and answer.left > answer.right:
        return "right" if answer.answer == "left" else "left"
    return answer.answer
