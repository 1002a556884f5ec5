"""Answers to pairs of episodes: the page of `ask` saves them, and `fit` reads them."""

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
from pydantic import FailFast, Field, FiniteFloat, ValidationError, field_validator

from shaperun.check.behaviors import MAX_EPISODE_STEPS
from shaperun.common.errors import UserError
from shaperun.common.files import MAX_JSON_BYTES, parse_json, read_regular
from shaperun.common.text import truncate
from shaperun.common.validation import Model
from shaperun.envs.base import Array
from shaperun.study.error_messages import describe_value_error
from shaperun.study.models import Study

FORMAT = "shaperun answers 1"
_BUILT_IN = "built in"
MAX_STATES = 24  # per episode
MAX_OBSERVATION_SIZE = 64  # of observations that are stored

Choice = Literal["left", "right", "equal", "unsure"]
PREFERENCES = {"left": 1.0, "right": 0.0, "equal": 0.5}
"""Preference for the left episode; undefined for "unsure"."""


# A forged file would have millions of errors, of which the first is reported.
Numbers = Annotated[list[FiniteFloat], FailFast()]


class EpisodeSummary(Model):
    """One episode of the page.

    `sums` are the terms' discounted sums, Σ γ^t c(s_t, a_t, s_t+1), and `undiscounted` the same
    without γ; `discounted` and `env_return` are both returns of the environment's reward. `states`
    are observations in the middle of each part of `split_steps`; empty if observations are
    discrete or too large.
    """

    start: Annotated[int, Field(ge=0)]  # seed of the reset
    by: str
    outcome: str
    length: Annotated[int, Field(ge=1, le=MAX_EPISODE_STEPS)]
    env_return: FiniteFloat
    discounted: FiniteFloat
    sums: Numbers
    undiscounted: Numbers
    states: Annotated[list[Numbers], FailFast()]


class Subject(Model):
    """Everything that the sums of an episode depend on."""

    environment: dict[str, Any]
    gamma: FiniteFloat
    terms: dict[str, Any]

    @classmethod
    def from_study(cls, study: Study) -> Subject:
        """Return the subject of a study."""
        environment = study.environment.describe()
        # In the kernel's order, without the environment's own reward: the question is what else
        # should be rewarded.
        terms = {
            **dict.fromkeys(environment.terms, _BUILT_IN),
            **{name: _serialize_term(term) for name, term in study.terms.items()},
            **dict.fromkeys(environment.outcomes, _BUILT_IN),
        }
        config = study.environment.model_dump(mode="json", include={"id", "options", "outcomes"})
        return cls(environment=config, gamma=study.training.gamma, terms=terms)


def _serialize_term(term: Any) -> Any:
    return term if isinstance(term, str) else term.model_dump(mode="json")


class Answer(Model):
    """Answer about two episodes, given by index."""

    left: Annotated[int, Field(ge=0)]
    right: Annotated[int, Field(ge=0)]
    answer: Choice


class AnswerSheet(Model):
    """File of answers. `table` is the JSON of the episodes exactly as in the page."""

    format: Literal["shaperun answers 1"]
    study: str
    subject: Subject
    table: str
    digest: str
    answers: Annotated[list[Answer], FailFast()]

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: str) -> str:
        rows = parse_json(value.encode())
        for row in rows if isinstance(rows, list) else [None]:
            EpisodeSummary.model_validate(row)
        return value

    @cached_property
    def episodes(self) -> list[EpisodeSummary]:
        """Episodes by index."""
        return [EpisodeSummary.model_validate(row) for row in json.loads(self.table)]

    @property
    def terms(self) -> list[str]:
        """Names of the terms, in the order of `sums`."""
        return list(self.subject.terms)

    @property
    def sums(self) -> tuple[Array, Array]:
        """Sums of every episode and term, with γ and without (episodes, K)."""
        return stack_sums(self.episodes)

    @property
    def observation_size(self) -> int:
        """Size of the stored observations; 0 if none are stored."""
        return max((len(state) for e in self.episodes for state in e.states), default=0)

    def comparisons(self) -> tuple[npt.NDArray[np.intp], Array]:
        """Return the pairs (n, 2) that were preferred or called equal, and the preferences (n,)."""
        given = [a for a in self.answers if a.answer in PREFERENCES]
        known = {(a.left, a.right): PREFERENCES[a.answer] for a in given}
        pairs = np.array(list(known), dtype=np.intp).reshape(-1, 2)
        return pairs, np.array(list(known.values()))

    def count_answers(self) -> Counter[str]:
        """Return the number of answers by choice."""
        return Counter(answer.answer for answer in self.answers)


def serialize_episodes(episodes: Sequence[EpisodeSummary]) -> str:
    """Return the JSON of episodes that the page embeds and saves with the answers."""
    rows = [episode.model_dump() for episode in episodes]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def stack_sums(episodes: Sequence[EpisodeSummary]) -> tuple[Array, Array]:
    """Return the sums of every episode and term, with γ and without (episodes, K)."""
    return (
        np.array([episode.sums for episode in episodes], dtype=np.float64),
        np.array([episode.undiscounted for episode in episodes], dtype=np.float64),
    )


def split_steps(length: int) -> list[npt.NDArray[np.intp]]:
    """Split the steps of an episode into at most `MAX_STATES` consecutive parts."""
    return np.array_split(np.arange(length), min(MAX_STATES, length))


def compute_digest(text: str) -> str:
    """Return the SHA-256 that protects a table against changes."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_answers(path: Path) -> AnswerSheet:
    """Read a file of answers.

    Raises:
        UserError: the file cannot be read, or was not saved by the page; the message says why.
    """
    try:
        data = read_regular(path, MAX_JSON_BYTES)  # the largest page saves a third
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    document = parse_json(data)
    if document is None:
        raise UserError(f"{path} is not valid JSON (truncated?); save the answers again")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{path} contains no answers; save them from the page of shaperun ask")
    try:
        sheet = AnswerSheet.model_validate(document)
    except (ValidationError, ValueError) as error:
        raise UserError(f"{path} was not saved by the page: {_format_first(error)}") from None
    problem = _find_problem(sheet)
    if problem:
        raise UserError(f"{path}: {problem}")
    return sheet


def ensure_same_study(sheet: AnswerSheet, study: Study) -> None:
    """Check that answers are about a study.

    Raises:
        UserError: the sums of its episodes would differ; the message names the difference.
    """
    subject = Subject.from_study(study)
    for name in Subject.model_fields:
        theirs, ours = getattr(sheet.subject, name), getattr(subject, name)
        if theirs != ours:
            other, own = (truncate(str(value), 100) for value in (theirs, ours))
            raise UserError(
                f"the answers are about another study, {sheet.study}: its {name} is {other}, but "
                f"that of {study.study} is {own}"
            )
    size = study.environment.describe().observation_size
    if sheet.observation_size not in (0, size):
        raise UserError(
            f"the answers are about observations of size {sheet.observation_size}, but those of "
            f"{study.environment.id} have size {size}"
        )


def _format_first(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {describe_value_error(first)}"


def _find_problem(sheet: AnswerSheet) -> str | None:
    """Return why the page cannot have saved a sheet, or None if it can."""
    if compute_digest(sheet.table) != sheet.digest:
        return "its episodes were changed after saving; use the file as the page saved it"
    sizes = {len(sums) for e in sheet.episodes for sums in (e.sums, e.undiscounted)}
    if sizes - {len(sheet.terms)}:
        return "the sums of its episodes do not match its terms"
    if any(not _has_expected_states(e, sheet.observation_size) for e in sheet.episodes):
        return "the states of its episodes do not match their lengths"
    choices: dict[frozenset[int], str] = {}
    for number, answer in enumerate(sheet.answers, start=1):
        pair = frozenset((answer.left, answer.right))
        if len(pair) < 2 or max(pair) >= len(sheet.episodes):
            return f"answer {number} is not about two of its {len(sheet.episodes)} episodes"
        if len({sheet.episodes[index].start for index in pair}) > 1:
            return f"answer {number} is about two episodes with different starts"
        choice = _order_choice(answer)
        if choices.setdefault(pair, choice) != choice:
            return f"answer {number} contradicts an earlier one about the same two episodes"
    return None


def _has_expected_states(episode: EpisodeSummary, size: int) -> bool:
    count = min(MAX_STATES, episode.length) if size else 0
    return [len(state) for state in episode.states] == [size] * count


def _order_choice(answer: Answer) -> str:
    """Return the choice as if the episode with the lower index had been on the left."""
    if answer.answer in ("left", "right") and answer.left > answer.right:
        return "right" if answer.answer == "left" else "left"
    return answer.answer
