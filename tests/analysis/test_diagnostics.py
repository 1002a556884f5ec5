"""Every rule on updates that it must find, and on such that it must leave alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from shaperun.analysis.diagnostics import (
    CLIP_FRACTION_BOUND,
    KL,
    RULES,
    diagnose,
    kl_bound,
    measures,
)
from shaperun.study.models import Study, parse_study

Series = Sequence[float | None]

# A learner that is well; its entropy falls slowly.
WELL: dict[str, Series] = {
    "approx_kl": [0.01] * 20,
    "clip_fraction": [0.1] * 20,
    "entropy": [0.69 - 0.02 * n for n in range(20)],
    "explained_variance": [-0.2, 0.0, 0.1] + [0.8] * 17,
    "value_loss": [40.0 - n for n in range(20)],
    "std": [None] * 20,
}
BOX: dict[str, Series] = WELL | {
    # A density's entropy may be of either sign, and comes near to 0 on its way.
    "entropy": [2.8 - 0.2 * n for n in range(20)],
    "std": [1.0 - 0.03 * n for n in range(20)],
}


LOSS: dict[str, Series] = {"loss": [1.0] * 20}


def study(algorithm: str = "PPO", **hyperparameters: Any) -> Study:
    return parse_study(
        {
            "study": "s",
            "environment": {"id": "CartPole-v1"},
            "training": {
                "algorithm": algorithm,
                "total_timesteps": 1000,
                "hyperparameters": hyperparameters,
            },
            "arms": {"arm": {}, "a": {}, "b": {}},
        }
    )


def updates(columns: Mapping[str, Series], arm: str = "arm", seed: int = 0) -> pl.DataFrame:
    length = len(next(iter(columns.values())))
    run = {"arm": [arm] * length, "seed": [seed] * length, "timesteps": list(range(length))}
    numbers = {name: pl.Series(values, dtype=pl.Float64) for name, values in columns.items()}
    return pl.DataFrame({**run, **numbers})


def found(rule: str, base: dict[str, Series] = WELL, **columns: Series) -> list[str]:
    every = diagnose(updates(base | columns), study())
    return [breach.message for breach in every if breach.rule == rule]


def early(value: float, at: int) -> list[float]:
    """Of twenty updates: 1 at first, and a value from one of them on."""
    return [1.0] * at + [value] * (20 - at)


# rule -> columns that it finds, a pattern of the message, and columns that it leaves alone.
CASES: dict[str, list[tuple[dict[str, Series], str, dict[str, Series]]]] = {
    "kl-above-target": [
        (
            {"approx_kl": [0.01] * 17 + [0.031, 0.04, 0.05]},
            r"^15% of the updates .* KL above 0\.03 \(at most 0\.05\)",
            {"approx_kl": [0.01] * 18 + [0.04, 5.0]},  # one in ten may
        ),
        ({"approx_kl": [0.0301] * 20}, r"^100% of", {"approx_kl": [0.03] * 20}),
    ],
    "clipping": [
        (
            {"clip_fraction": [0.0] * 14 + [0.31] * 6},
            r"^half of the late updates clip more than 31%",
            {"clip_fraction": [0.9] * 10 + [0.29] * 10},  # early only
        ),
        ({"clip_fraction": [0.0] * 10 + [0.4] * 10}, "40%", {"clip_fraction": [0.3] * 20}),
    ],
    "entropy-collapse": [
        # It came back: what was not explored is lost all the same.
        (
            {"entropy": [1.0] * 3 + [0.04] * 6 + [0.8] * 11},
            r"^before half of training the entropy fell to 4\.0%",
            {"entropy": early(0.04, at=10)},  # late it may
        ),
        ({"entropy": early(0.049, at=9)}, r"4\.9%", {"entropy": early(0.051, at=3)}),
        (
            BOX | {"std": early(0.03, at=5)},
            r"standard deviation of the actions fell to 3\.0%",
            BOX,
        ),
        (BOX | {"std": early(0.01, at=5)}, "raise ent_coef", BOX | {"std": early(0.06, at=5)}),
    ],
    "explains-nothing": [
        (
            {"explained_variance": [0.9] * 10 + [0.0] * 10, "value_loss": [1.0] * 19 + [6.15e7]},
            r"critic explains 0\.00 of the variance .*\(value loss 61,500,000\)",
            {"explained_variance": [0.0] * 10 + [0.1] * 10},  # early it may
        ),
        ({"explained_variance": [-0.5] * 20}, r"-0\.50", {"explained_variance": [0.01] * 20}),
    ],
    "still-random": [
        (
            {"clip_fraction": [0.0] * 20, "entropy": [1.386] * 19 + [1.35]},
            r"entropy is 97% of what it was .*value loss \(21 here\)",
            {"clip_fraction": [0.0] * 20, "entropy": [1.386] * 19 + [1.3]},  # it learned
        ),
        (
            {"clip_fraction": [1e-4] * 20, "entropy": [-1.0] * 20},
            r"100% of what it was",
            {"clip_fraction": [1e-4] * 17 + [0.1] * 3, "entropy": [1.0] * 20},
        ),
    ],
}
FLAT = [(rule, *case) for rule, cases in CASES.items() for case in cases]


@pytest.mark.parametrize(("rule", "guilty", "pattern", "innocent"), FLAT)
def test_a_rule_finds_what_it_is_for_and_nothing_else(
    rule: str, guilty: dict[str, Series], pattern: str, innocent: dict[str, Series]
) -> None:
    [message] = found(rule, WELL | guilty)
    assert re.search(pattern, message)
    assert found(rule, WELL | innocent) == []


def test_every_rule_has_a_case() -> None:
    assert RULES.keys() == CASES.keys()


@pytest.mark.parametrize("well", [WELL, BOX])
def test_a_learner_that_is_well_breaks_no_rule(well: dict[str, Series]) -> None:
    assert diagnose(updates(well), study()) == []


def test_a_breach_says_in_which_run_it_was() -> None:
    bad = WELL | {"approx_kl": [1.0] * 20}
    table = pl.concat([updates(WELL, "a", 3), updates(bad, "a", 4), updates(bad, "b", 3)])
    assert [(b.arm, b.seed, b.rule) for b in diagnose(table, study())] == [
        ("a", 4, "kl-above-target"),
        ("b", 3, "kl-above-target"),
    ]


def test_the_bound_on_kl_is_the_studys_target_where_it_has_one() -> None:
    assert kl_bound(study()) == KL
    assert kl_bound(study(target_kl=0.2)) == 0.2
    assert kl_bound(study("TRPO")) == 0.01
    assert kl_bound(study("DQN")) == kl_bound(study("A2C")) == KL
    moved = updates(WELL | {"approx_kl": [0.1] * 20})
    assert diagnose(moved, study())
    assert diagnose(moved, study(target_kl=0.2)) == []
    [tight] = diagnose(updates(WELL | {"approx_kl": [0.02] * 20}), study(target_kl=0.01))
    assert "KL above 0.01" in tight.message


def test_a_learner_that_its_target_stops_is_well() -> None:
    stopped = updates(WELL | {"approx_kl": [0.012] * 20})
    assert diagnose(stopped, study(target_kl=0.01)) == []


def test_no_target_is_advised_where_there_is_one() -> None:
    [breach] = diagnose(updates(WELL | {"approx_kl": [0.1] * 20}), study(target_kl=0.01))
    assert "set target_kl" not in breach.message


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_finite_does_no_harm(odd: float | None) -> None:
    # Wherever it stands, the verdicts are those without it.
    for base in (WELL, BOX):
        for places in ([0], [19], [0, 9, 10, 19]):
            columns = {name: list(values) for name, values in base.items()}
            for place in places:
                for values in columns.values():
                    values.insert(place, odd)
            assert diagnose(updates(columns), study()) == []
    clipped = found("clipping", clip_fraction=[odd] + [0.5] * 18 + [odd])
    assert len(clipped) == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf, None])
def test_a_learner_that_reports_nothing_breaks_no_rule(odd: float | None) -> None:
    nothing: dict[str, Series] = {name: [odd] * 20 for name in WELL}
    assert diagnose(updates(nothing), study()) == []
    assert diagnose(updates(LOSS), study("DQN")) == []
    assert diagnose(updates(nothing).clear(), study()) == []
    # Text is what polars makes of a column without any value.
    empty = updates(WELL).with_columns(pl.lit(None, pl.String).alias("explained_variance"))
    assert diagnose(empty, study()) == []


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_run_of_few_updates(length: int) -> None:
    short: dict[str, Series] = {name: values[:length] for name, values in WELL.items()}
    short["explained_variance"] = [0.5] * length
    assert diagnose(updates(short), study()) == []


def columns(table: pl.DataFrame, known: Study | None = None) -> list[str]:
    return [measure.column for measure in measures(table, known or study())]


def test_measures_are_what_the_learner_reported() -> None:
    shown = ["approx_kl", "clip_fraction", "entropy", "explained_variance", "value_loss"]
    assert columns(updates(WELL)) == shown
    assert columns(updates(BOX)) == [*shown, "std"]
    # The loss is the sum of what is shown already, unless nothing is.
    assert columns(updates(WELL | LOSS)) == shown
    dqn: dict[str, Series] = {name: [None] * 20 for name in WELL}
    assert columns(updates(dqn | LOSS)) == ["loss"]
    assert columns(updates(dqn)) == []
    assert measures(pl.DataFrame(), study()) == []


def test_measures_have_their_bounds() -> None:
    bounds = {m.column: m.bound for m in measures(updates(BOX), study(target_kl=0.2))}
    assert bounds["approx_kl"] == 0.2
    assert bounds["clip_fraction"] == CLIP_FRACTION_BOUND
    assert bounds["explained_variance"] == 0.0
    assert bounds["entropy"] is bounds["std"] is bounds["value_loss"] is None


def test_a_figure_that_never_was_a_number_is_not_shown() -> None:
    never = WELL | {"explained_variance": [math.nan] * 20}
    assert "explained_variance" not in columns(updates(never))
