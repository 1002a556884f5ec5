"""Environment sections: which backends are accepted, and what is serialized."""

from __future__ import annotations

from shaperun.study.models import RunConfig
from tests.helpers.studies import accept, refuse


def test_envpool_needs_a_validated_environment() -> None:
    lander = {"id": "LunarLander-v3", "backend": "envpool"}
    assert accept("environment", lander).environment.backend == "envpool"
    limited = lander | {"options": {"max_episode_steps": 500}}
    assert accept("environment", limited).environment.backend == "envpool"
    windy = lander | {"options": {"enable_wind": True}}
    assert "does not support the option enable_wind" in refuse("environment", windy)
    reasons = {"Pendulum-v1": "differs from"} | dict.fromkeys(
        ("Taxi-v4", "Hopper-v5"), "not validated"
    )
    for env_id, why in reasons.items():
        refused = refuse("environment", {"id": env_id, "backend": "envpool"})
        assert why in refused
        assert "leave backend out" in refused


def test_default_backend_is_not_serialized() -> None:
    default = accept("study", "plain")
    assert "backend" not in default.model_dump(mode="json")["environment"]
    lander = {"id": "LunarLander-v3"}
    studies = [accept("environment", lander | {"backend": b}) for b in ("gymnasium", "envpool")]
    configs = [study.run_config(study.arms["default"], 0) for study in studies]
    assert configs[0].identity != configs[1].identity
    assert [c.environment.backend for c in configs] == ["gymnasium", "envpool"]
    again = [RunConfig.model_validate_json(c.model_dump_json()) for c in configs]
    assert again == configs
