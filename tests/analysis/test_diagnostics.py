"""Every rule on updates that it must flag, and on updates that it must not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from shaperun.analysis.diagnostics import (
    MAX_CLIP_FRACTION,
    MAX_KL,
    RULES,
    describe_rule,
    diagnose,
    kl_bound,
    reported_measures,
)
from shaperun.study.models import Study, parse_study

Series = Sequence[float | None]

# A healthy learner: its entropy falls slowly.
HEALTHY: dict[str, Series] = {
    "approx_kl": [0.01] * 20,
    "clip_fraction": [0.1] * 20,
    "entropy": [0.69 - 0.02 * n for n in range(20)],
    "explained_variance": [-0.2, 0.0, 0.1] + [0.8] * 17,
    "value_loss": [40.0 - n for n in range(20)],
    "std": [None] * 20,
}
BOX: dict[str, Series] = HEALTHY | {
    # A density's entropy may have either sign, and passes 0.
    "entropy": [2.8 - 0.2 * n for n in range(20)],
    "std": [1.0 - 0.03 * n for n in range(20)],
}


LOSS: dict[str, Series] = {"loss": [1.0] * 20}


def study(algorithm: str = "PPO", normalize: bool = False, **hyperparameters: Any) -> Study:
    return parse_study(
        {
            "study": "s",
            "environment": {"id": "CartPole-v1"},
            "training": {
                "algorithm": algorithm,
                "total_timesteps": 1000,
                "normalize": normalize,
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


def found(rule: str, base: dict[str, Series] = HEALTHY, **columns: Series) -> list[str]:
    diagnostics = diagnose(updates(base | columns), study())
    return [d.message for d in diagnostics if d.rule == rule]


def early(value: float, at: int) -> list[float]:
    """Twenty updates: 1 at first, and a value from one of them on."""
    return [1.0] * at + [value] * (20 - at)


# rule -> columns that it flags, a pattern of the message, and columns that it does not flag.
CASES: dict[str, list[tuple[dict[str, Series], str, dict[str, Series]]]] = {
    "kl-above-target": [
        (
            {"approx_kl": [0.01] * 17 + [0.031, 0.04, 0.05]},
            r"^15% of the updates .* KL above 0\.03 \(maximum 0\.05\)",
            {"approx_kl": [0.01] * 18 + [0.04, 5.0]},  # one in ten may
        ),
        ({"approx_kl": [0.0301] * 20}, r"^100% of", {"approx_kl": [0.03] * 20}),
    ],
    "clipping": [
        (
            {"clip_fraction": [0.0] * 14 + [0.31] * 6},
            r"^the median update in the second half of training clipped 31%",
            {"clip_fraction": [0.9] * 10 + [0.29] * 10},  # early only
        ),
        ({"clip_fraction": [0.0] * 10 + [0.4] * 10}, "40%", {"clip_fraction": [0.3] * 20}),
    ],
    "entropy-collapse": [
        # It recovered, but what was not explored is lost.
        (
            {"entropy": [1.0] * 3 + [0.04] * 6 + [0.8] * 11},
            r"^the entropy fell to 4\.0% of its initial value in the first half",
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
            r"median explained variance .* is 0 \(last value loss 61,500,000\)",
            {"explained_variance": [0.0] * 10 + [0.1] * 10},  # early it may
        ),
        ({"explained_variance": [-0.5] * 20}, r"is −0\.5 ", {"explained_variance": [0.01] * 20}),
    ],
    "still-random": [
        (
            {"clip_fraction": [0.0] * 20, "entropy": [1.386] * 19 + [1.35]},
            r"entropy ended at 97% of its initial value.*value loss \(here 21 at the end\)",
            {"clip_fraction": [0.0] * 20, "entropy": [1.386] * 19 + [1.3]},  # it learned
        ),
        (
            {"clip_fraction": [1e-4] * 20, "entropy": [-1.0] * 20},
            r"100% of its initial value",
            {"clip_fraction": [1e-4] * 17 + [0.1] * 3, "entropy": [1.0] * 20},
        ),
    ],
}
FLAT = [(rule, *case) for rule, cases in CASES.items() for case in cases]


@pytest.mark.parametrize(("rule", "flagged", "pattern", "unflagged"), FLAT)
def test_rule_flags_what_it_must_and_nothing_else(
    rule: str, flagged: dict[str, Series], pattern: str, unflagged: dict[str, Series]
) -> None:
    [message] = found(rule, HEALTHY | flagged)
    assert re.search(pattern, message)
    assert found(rule, HEALTHY | unflagged) == []


@pytest.mark.parametrize(
    ("loss", "normalize", "remedy"),
    [
        (61.0, False, "normalize the rewards or scale them down"),
        (0.266, False, "normalize the rewards or train for longer"),
        (2e-7, False, "normalize the rewards or scale them up"),
        (2e-7, True, "train for longer or with more steps per update"),
        (None, False, "normalize the rewards or train for longer"),
    ],
)
def test_advice_fits_the_size_of_the_value_loss(
    loss: float | None, normalize: bool, remedy: str
) -> None:
    columns: dict[str, Series] = {"explained_variance": [-5.96e-8] * 20, "value_loss": [loss] * 20}
    [item] = diagnose(updates(HEALTHY | columns), study(normalize=normalize))
    assert "in the second half of training is 0" in item.message
    assert item.message.endswith(remedy)
    assert ("last value loss" in item.message) == (loss is not None)


def test_only_a_huge_value_loss_is_called_huge() -> None:
    random = {"clip_fraction": [0.0] * 20, "entropy": [1.386] * 20}
    [small] = found("still-random", HEALTHY | random, value_loss=[0.266] * 20)
    assert small.endswith("only slight preferences; train for longer or raise learning_rate")
    [huge] = found("still-random", HEALTHY | random, value_loss=[900.0] * 20)
    assert huge.endswith(
        "A huge value loss (here 900 at the end) takes all of the clipped "
        "gradient; normalize the rewards"
    )


def test_rules_have_titles() -> None:
    assert describe_rule("explains-nothing") == "The critic explains nothing"
    assert all(describe_rule(name) != name for name in RULES)


def test_every_rule_has_a_case() -> None:
    assert RULES.keys() == CASES.keys()


@pytest.mark.parametrize("healthy", [HEALTHY, BOX])
def test_healthy_learner_is_not_flagged(healthy: dict[str, Series]) -> None:
    assert diagnose(updates(healthy), study()) == []


def test_diagnostic_names_its_run() -> None:
    bad = HEALTHY | {"approx_kl": [1.0] * 20}
    table = pl.concat([updates(HEALTHY, "a", 3), updates(bad, "a", 4), updates(bad, "b", 3)])
    assert [(b.arm, b.seed, b.rule) for b in diagnose(table, study())] == [
        ("a", 4, "kl-above-target"),
        ("b", 3, "kl-above-target"),
    ]


def test_kl_bound_is_the_target_of_the_study() -> None:
    assert kl_bound(study()) == MAX_KL
    assert kl_bound(study(target_kl=0.2)) == 0.2
    assert kl_bound(study("TRPO")) == 0.01
    assert kl_bound(study("DQN")) == kl_bound(study("A2C")) == MAX_KL
    moved = updates(HEALTHY | {"approx_kl": [0.1] * 20})
    assert diagnose(moved, study())
    assert diagnose(moved, study(target_kl=0.2)) == []
    [tight] = diagnose(updates(HEALTHY | {"approx_kl": [0.02] * 20}), study(target_kl=0.01))
    assert "KL above 0.01" in tight.message


def test_kl_between_target_and_its_stopping_point_is_not_flagged() -> None:
    stopped = updates(HEALTHY | {"approx_kl": [0.012] * 20})
    assert diagnose(stopped, study(target_kl=0.01)) == []


def test_target_kl_is_advised_only_if_unset() -> None:
    [diagnostic] = diagnose(updates(HEALTHY | {"approx_kl": [0.1] * 20}), study(target_kl=0.01))
    assert "set target_kl" not in diagnostic.message


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None])
def test_non_finite_values_are_ignored(odd: float | None) -> None:
    for base in (HEALTHY, BOX):
        for indices in ([0], [19], [0, 9, 10, 19]):
            columns = {name: list(values) for name, values in base.items()}
            for index in indices:
                for values in columns.values():
                    values.insert(index, odd)
            assert diagnose(updates(columns), study()) == []
    clipped = found("clipping", clip_fraction=[odd] + [0.5] * 18 + [odd])
    assert len(clipped) == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf, None])
def test_learner_without_statistics_is_not_flagged(odd: float | None) -> None:
    nothing: dict[str, Series] = {name: [odd] * 20 for name in HEALTHY}
    assert diagnose(updates(nothing), study()) == []
    assert diagnose(updates(LOSS), study("DQN")) == []
    assert diagnose(updates(nothing).clear(), study()) == []
    # Text is what polars makes of a column without any value.
    empty = updates(HEALTHY).with_columns(pl.lit(None, pl.String).alias("explained_variance"))
    assert diagnose(empty, study()) == []


@pytest.mark.parametrize("length", [1, 2, 3])
def test_run_with_few_updates_is_not_flagged(length: int) -> None:
    short: dict[str, Series] = {name: values[:length] for name, values in HEALTHY.items()}
    short["explained_variance"] = [0.5] * length
    assert diagnose(updates(short), study()) == []


def columns(table: pl.DataFrame, known: Study | None = None) -> list[str]:
    return [measure.column for measure in reported_measures(table, known or study())]


def test_measures_are_those_that_the_learner_reported() -> None:
    shown = ["approx_kl", "clip_fraction", "entropy", "explained_variance", "value_loss"]
    assert columns(updates(HEALTHY)) == shown
    assert columns(updates(BOX)) == [*shown, "std"]
    # The loss is a sum of the other losses, unless none is reported.
    assert columns(updates(HEALTHY | LOSS)) == shown
    dqn: dict[str, Series] = {name: [None] * 20 for name in HEALTHY}
    assert columns(updates(dqn | LOSS)) == ["loss"]
    assert columns(updates(dqn)) == []
    assert reported_measures(pl.DataFrame(), study()) == []


def test_measures_have_bounds() -> None:
    bounds = {m.column: m.bound for m in reported_measures(updates(BOX), study(target_kl=0.2))}
    assert bounds["approx_kl"] == 0.2
    assert bounds["clip_fraction"] == MAX_CLIP_FRACTION
    assert bounds["explained_variance"] == 0.0
    assert bounds["entropy"] is bounds["std"] is bounds["value_loss"] is None


def test_statistic_without_a_finite_value_is_not_a_measure() -> None:
    never = HEALTHY | {"explained_variance": [math.nan] * 20}
    assert "explained_variance" not in columns(updates(never))
