"""Numbers from the info of steps."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from shaperun.envs.info import InfoError, read_info, record_info, record_vector_info

INFO: dict[str, Any] = {
    "speed": 1.5,
    "single": np.float32(0.25),
    "one": np.array([3]),
    "success": np.bool_(True),
    "rewards": {"collision": -1, "lane": {"left": 2}},
    "name": "road",
    "path": np.zeros((2, 3)),
}


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["speed"], 1.5),
        (["single"], 0.25),
        (["one"], 3),
        (["success"], 1),
        (["rewards", "collision"], -1),
        (["rewards", "lane", "left"], 2),
    ],
)
def test_numbers_are_read(keys: list[str], value: float) -> None:
    assert read_info(record_info(INFO), keys) == value


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["name"], r'info\["name"\] is a value of type str, not a number'),
        (["path"], r'info\["path"\] is a value of type ndarray of shape \(2, 3\), not a number'),
        (["rewards"], r'info\["rewards"\] is a mapping, not a number'),
        (["speed", "x"], r'info\["speed"\] is a number \(1\.5\), not a mapping'),
        (["success", "x"], r'info\["success"\] is a boolean \(True\), not a mapping'),
        (
            ["sped"],
            r'info has no "sped" at this step \(it has speed, single, .*info.get\("sped", 0',
        ),
        (["rewards", "no"], r'info\["rewards"\] has no "no" at this step \(it has collision, lane'),
    ],
)
def test_other_entries_are_refused(keys: list[str], message: str) -> None:
    with pytest.raises(InfoError, match=message):
        read_info(record_info(INFO), keys)


def test_default_replaces_a_missing_last_key_only() -> None:
    info = record_info(INFO)
    assert read_info(info, ["rewards", "no"], 0.5) == 0.5
    assert read_info(info, ["speed"], 0.5) == 1.5
    with pytest.raises(InfoError, match="not a number"):
        read_info(info, ["name"], 0.5)
    with pytest.raises(InfoError, match="not a mapping"):
        read_info(info, ["speed", "x"], 0.5)


def test_records_are_copies() -> None:
    info = {"nested": {"value": 1.0}}
    record = record_info(info)
    info["nested"]["value"] = 2.0
    assert record == {"nested": {"value": 1.0}}


class Reporter(gym.Env[Any, Any]):
    """Reports what it does; only every third step has `lap`, and episodes last five steps."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {"count": 0, "start": 1}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        info: dict[str, Any] = {"count": self.count, "parts": {"action": float(action)}}
        if self.count % 3 == 0:
            info["lap"] = True
        return np.zeros(1, np.float32), 0.0, self.count == 5, False, info


@pytest.mark.parametrize("mode", AutoresetMode)
def test_infos_of_a_vector_are_those_of_its_environments(mode: AutoresetMode) -> None:
    vector = SyncVectorEnv([Reporter] * 2, autoreset_mode=mode)
    single = Reporter()
    vector.reset(seed=0)
    single.reset()
    ended = False
    for step in range(12):
        if ended and mode == AutoresetMode.DISABLED:
            vector.reset(options={"reset_mask": np.ones(2, bool)})
        *_, terminated, _, infos = vector.step(np.array([1, 0]))
        if ended:
            single.reset()
        first: dict[str, Any] = {"count": 0, "start": 1}
        second = first
        if not (ended and mode == AutoresetMode.NEXT_STEP):
            first = record_info(single.step(1)[-1])
            second = {**first, "parts": {"action": 0.0}}
        assert list(record_vector_info(infos, 2)) == [first, second], step
        ended = terminated[0]


def test_integer_beyond_floats_is_named() -> None:
    info = record_info({"a": {"big": 10**400}})
    message = 'info["a"]["big"] is an integer beyond the largest number'
    with pytest.raises(InfoError, match=re.escape(message)):
        read_info(info, ["a", "big"])
