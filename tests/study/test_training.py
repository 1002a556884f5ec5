"""Training sections: engines, devices, and what arms override."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from shaperun.study.models import Study, parse_study
from tests.helpers.studies import PLAIN, accept, refuse


def test_engine_must_be_able_to_train_the_learner() -> None:
    assert accept("training.engine", "lockstep").training.engine == "lockstep"
    assert accept("study", "plain").training.engine == "lockstep"
    a2c = {"total_timesteps": 1, "algorithm": "A2C"}
    assert accept("training", a2c).training.engine == "sb3"
    refused = refuse("training", a2c | {"engine": "lockstep"})
    assert "A2C is trained by sb3, not by lockstep; leave engine out" in refused
    sde = {"total_timesteps": 1, "hyperparameters": {"use_sde": True}}
    assert accept("training", sde).training.engine == "sb3"
    refused = refuse("training", sde | {"engine": "lockstep"})
    assert "PPO with use_sde is trained by sb3, not by lockstep" in refused


def test_gpu_needs_lockstep() -> None:
    assert accept("training.device", "cuda").training.device == "cuda"
    for training in ({"engine": "sb3"}, {"algorithm": "DQN"}):
        refused = refuse("training", {"total_timesteps": 1, "device": "cuda", **training})
        assert "only the lockstep engine trains on a GPU; leave device out" in refused


def test_identity_depends_on_the_engine() -> None:
    one, other = (accept("training.engine", engine) for engine in ("sb3", "lockstep"))
    identities = {s.run_config(s.arms["default"], 0).identity for s in (one, other)}
    assert len(identities) == 2


SHARED = {"n_steps": 32, "gamma": 0.9}


def arm_training(overrides: dict[str, Any], **shared: Any) -> Study:
    data = copy.deepcopy(PLAIN)
    data["training"] = data["training"] | {"hyperparameters": SHARED} | shared
    data["arms"] = {"default": {}, "other": {"training": overrides}}
    return parse_study(data)


def test_arm_may_override_training() -> None:
    study = arm_training({"n_envs": 3, "hyperparameters": {"ent_coef": 0.1}}, n_envs=2)
    default, other = (study.training_of(arm) for arm in study.arms.values())
    assert default == study.training
    assert other.hyperparameters == default.hyperparameters | {"ent_coef": 0.1}
    assert (default.n_envs, other.n_envs) == (2, 3)
    runs = [study.run_config(arm, 0) for arm in study.arms.values()]
    assert [run.training for run in runs] == [default, other]
    assert runs[0].reward == runs[1].reward


def test_arm_with_another_algorithm_inherits_only_gamma() -> None:
    study = arm_training({"algorithm": "A2C"}, engine="lockstep", normalize={"rewards": True})
    other = study.training_of(study.arms["other"])
    alone = parse_study(PLAIN | {"training": {"algorithm": "A2C", "total_timesteps": 1}}).training
    assert other.hyperparameters == alone.hyperparameters | {"gamma": 0.9}
    assert (other.engine, other.normalize.rewards) == ("sb3", True)


def test_training_of_an_arm_round_trips_through_json() -> None:
    study = arm_training({"algorithm": "TRPO", "hyperparameters": {"gamma": 0.5}})
    plain = study.model_dump(mode="json")
    assert "training" not in plain["arms"]["default"]
    assert "total_timesteps" not in plain["arms"]["other"]["training"]
    assert parse_study(plain) == study
    longer = plain | {"training": plain["training"] | {"total_timesteps": 9_999}}
    assert parse_study(longer).arms["other"].training.total_timesteps == 9_999  # type: ignore


def test_arm_cannot_override_total_timesteps() -> None:
    with pytest.raises(ValidationError, match="is the same for all arms"):
        arm_training({"total_timesteps": 5})


@pytest.mark.parametrize("shared", [{"n_envs": 0}, {"bogus": 1}, {"hyperparameters": {"x": 1}}])
def test_mistake_in_shared_training_is_reported_once(shared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        arm_training({"n_envs": 3}, **shared)
    assert error.value.error_count() == 1


@pytest.mark.parametrize("both", [True, False])
def test_normalize_takes_a_truth_value(both: bool) -> None:
    training = {"total_timesteps": 1000, "normalize": both}
    normalize = parse_study(PLAIN | {"training": training}).training.normalize
    assert (normalize.observations, normalize.rewards) == (both, both)
    arms = {"default": {}, "own": {"training": {"normalize": {"rewards": False}}}}
    study = parse_study(PLAIN | {"training": training, "arms": arms})
    own = study.training_of(study.arms["own"]).normalize
    assert (own.observations, own.rewards) == (both, False)
