"""The wrappers on real environments: consistency, and gymnasium's contract."""

import doctest
import pickle
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import shaperun
from shaperun.envs.base import Transition
from shaperun.envs.builtin import environments
from shaperun.rewards import wrapper
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper
from shaperun.study.environment import EnvironmentConfig
from tests.envs.test_info import Reporter

REWARDS = {
    "LunarLander-v3": {
        "log": RewardConfig(mode="log", weights={"distance": 200.0, "main_engine": 0.3}),
        "add": RewardConfig(mode="add", weights={"legs": 10.0, "side_engine": 0.03}),
        "replace": RewardConfig(mode="replace", weights={"distance": 2.0, "velocity": 1.0}),
        "potential": RewardConfig(mode="potential", weights={"distance": 100.0, "angle": 5.0}),
    },
    "CartPole-v1": {
        "log": RewardConfig(),
        "add": RewardConfig(mode="add", weights={"upright": 1.0, "push_right": 0.1}, scale=0.5),
        "replace": RewardConfig(mode="replace", weights={"centred": 1.0}),
        "potential": RewardConfig(mode="potential", weights={"still": 1.0, "upright": 3.0}),
        "memory": RewardConfig(
            mode="add",
            terms={
                "record": "highest(x) - previous(highest(x))",
                "restless": "changed(action) - std_so_far(angle) * lowest(vx)",
                "late": "mean_so_far(angle) + steps() + total(env_reward)",
            },
            weights={"record": 1.0, "restless": -1.0, "late": 0.01},
        ),
    },
}
CASES = [
    pytest.param(env_id, config, id=f"{env_id}-{mode}")
    for env_id, configs in REWARDS.items()
    for mode, config in configs.items()
]
GAMMA = 0.9
STEPS, LIMIT = 45, 20  # several episodes: CartPole terminates, LunarLander is truncated

each_case = pytest.mark.parametrize(("env_id", "config"), CASES)


def wrapped(env_id: str, config: RewardConfig, **options: Any) -> RewardShapingWrapper:
    return RewardShapingWrapper(gym.make(env_id, **options), config, gamma=GAMMA)


@pytest.mark.parametrize("autoreset", AutoresetMode)
@pytest.mark.parametrize("mode", ["log", "add", "replace"])
def test_vector_environment_reads_the_infos_of_its_steps(
    mode: Literal["log", "add", "replace"], autoreset: AutoresetMode
) -> None:
    read = 'info["count"] + 10 * info.get("start", 0) + total(info["count"])'
    config = RewardConfig(mode=mode, terms={"read": read}, weights={"read": 1.0})
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([Reporter] * 2, autoreset_mode=autoreset), config
    )
    copies = [Copy(RewardShapingWrapper(Reporter(), config), 0, autoreset) for _ in range(2)]
    vector.reset(seed=0)
    for _ in range(12):
        *step, info = vector.step(np.array([1, 0]))
        assert_same(tuple(step), info, copies, np.array([1, 0]))
        done = step[2]
        if autoreset == AutoresetMode.DISABLED and done.any():
            vector.reset(options={"reset_mask": done})
            for copy in copies:
                copy.restart()


class Copy:
    """Wrapped environment that resets as one environment of a vector does."""

    def __init__(self, env: RewardShapingWrapper, seed: int, mode: AutoresetMode) -> None:
        self.env, self.mode = env, mode
        self.obs, _ = env.reset(seed=seed)
        self.done = False

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, float]]:
        if self.mode == AutoresetMode.NEXT_STEP and self.done:
            self.obs, _ = self.env.reset()
            self.done = False
            names = [*self.env.kernel.names, "env_reward", "shaping", "shaped"]
            return self.obs, 0.0, False, False, dict.fromkeys(names, 0.0)
        self.obs, reward, terminated, truncated, info = self.env.step(action)
        self.done = terminated or truncated
        if self.mode == AutoresetMode.SAME_STEP and self.done:
            self.obs, _ = self.env.reset()
        return self.obs, float(reward), terminated, truncated, info["reward_components"]

    def restart(self) -> None:
        if self.mode == AutoresetMode.DISABLED and self.done:
            self.obs, _ = self.env.reset()
            self.done = False


@pytest.mark.parametrize("mode", AutoresetMode)
@each_case
def test_vector_environment_matches_single_environments(
    env_id: str, config: RewardConfig, mode: AutoresetMode
) -> None:
    make = partial(gym.make, env_id, max_episode_steps=LIMIT)
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([make] * 3, autoreset_mode=mode), config, gamma=GAMMA
    )
    copies = [
        Copy(wrapped(env_id, config, max_episode_steps=LIMIT), seed, mode) for seed in (5, 6, 7)
    ]
    obs, _ = vector.reset(seed=[5, 6, 7])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(STEPS):
        actions = rng.integers(vector.single_action_space.n, size=3)  # type: ignore[attr-defined]
        obs, rewards, terminated, truncated, info = vector.step(actions)
        assert_same((obs, rewards, terminated, truncated), info, copies, actions)
        done = terminated | truncated
        ends += done.sum()
        if mode == AutoresetMode.DISABLED and done.any():
            obs, _ = vector.reset(options={"reset_mask": done})
            for copy in copies:
                copy.restart()
        assert obs.tolist() == [copy.obs.tolist() for copy in copies]
    assert ends >= 6
    vector.close()


def assert_same(
    step: tuple[Any, ...], info: dict[str, Any], copies: list[Copy], actions: npt.NDArray[Any]
) -> None:
    singles = [copy.step(action) for copy, action in zip(copies, actions, strict=True)]
    *expected, parts = zip(*singles, strict=True)
    for value, one_by_one in zip(step, expected, strict=True):
        assert np.asarray(value).tolist() == pytest.approx(np.array(one_by_one), rel=1e-12)
    names = list(parts[0])
    assert list(info["reward_components"]) == names
    for name in names:
        values = [part[name] for part in parts]
        assert info["reward_components"][name] == pytest.approx(values, rel=1e-12, abs=1e-12)


def test_last_step_is_rewarded_by_the_final_observation() -> None:
    config = RewardConfig(mode="replace", weights={"upright": 1.0})
    make = partial(gym.make, "CartPole-v1")
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP), config
    )
    vector.reset(seed=3)
    done = np.zeros(2, dtype=bool)
    while not done.any():
        obs, rewards, terminated, truncated, info = vector.step(np.array([1, 0]))
        done = terminated | truncated
    assert (rewards[done] < 0).all()  # the pole has fallen, and is not upright again
    for copy in np.flatnonzero(done):
        assert vector.transition.next_obs[copy].tolist() == info["final_obs"][copy].tolist()
    assert vector.transition.next_obs[~done].tolist() == obs[~done].tolist()
    vector.step(np.array([1, 0]))
    assert vector.transition.obs.tolist() == obs.tolist()


def test_vectorized_cartpole_of_gymnasium() -> None:
    """It uses next-step autoreset and has no sub-environments."""
    config = RewardConfig(mode="add", weights={"upright": 2.0})
    env = gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")
    vector = VectorRewardShapingWrapper(env, config)
    vector.reset(seed=0)
    resets = 0
    done = np.zeros(2, dtype=bool)
    for _ in range(30):
        _, rewards, terminated, truncated, info = vector.step(np.ones(2, dtype=np.int64))
        parts = info["reward_components"]
        assert rewards.tolist() == pytest.approx(parts["env_reward"] + 2.0 * parts["upright"])
        for part in parts.values():
            assert not part[done].any()
        resets += done.sum()
        done = terminated | truncated
    assert resets


@each_case
def test_info_has_all_parts_and_they_add_up(env_id: str, config: RewardConfig) -> None:
    environment = environments()[env_id]
    env, bare = wrapped(env_id, config), gym.make(env_id)
    env.reset(seed=1)
    before, _ = bare.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(12):
        action = env.action_space.sample()
        obs, reward, terminated, truncated, info = env.step(action)
        bare_obs, bare_reward, *ends, bare_info = bare.step(action)
        parts = info["reward_components"]
        assert obs.tolist() == bare_obs.tolist()
        assert [terminated, truncated] == ends
        assert info == {**bare_info, "reward_components": parts}
        assert list(parts) == [*environment.terms, *config.terms, "env_reward", "shaping", "shaped"]
        assert all(type(part) is float for part in parts.values())
        assert parts["env_reward"] == bare_reward
        assert parts["shaped"] == reward
        weights = {n: config.scale * w for n, w in config.weights.items()}
        shaping = sum(weight * parts[name] for name, weight in weights.items())
        if config.mode == "potential":
            at = np.array([before], dtype=np.float64)
            phi = sum(w * environment.terms[n].function(at)[0] for n, w in weights.items())
            shaping = GAMMA * (0.0 if terminated else shaping) - phi
        assert parts["shaping"] == pytest.approx(shaping)
        env_reward = 0.0 if config.mode == "replace" else parts["env_reward"]
        added = 0.0 if config.mode == "log" else parts["shaping"]
        assert reward == pytest.approx(env_reward + added)
        before = obs


@each_case
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*Box observation space m")
def test_env_checker_of_gymnasium(env_id: str, config: RewardConfig) -> None:
    check_env(wrapped(env_id, config), skip_render_check=True)


def test_reset_and_step_follow_gymnasiums_contract() -> None:
    env = wrapped("CartPole-v1", RewardConfig())
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    first, info = env.reset(seed=9)
    assert info == {}
    again, _ = env.reset(seed=9)
    assert first.tolist() == again.tolist()
    low, _ = env.reset(seed=9, options={"low": -0.001, "high": 0.001})
    assert abs(low).max() <= 0.001


def test_environment_is_made_again_from_its_spec() -> None:
    config = RewardConfig(mode="add", weights={"upright": 1.0})
    env = wrapped("CartPole-v1", config, max_episode_steps=3)
    assert env.spec is not None
    again = gym.make(env.spec)
    assert isinstance(again, RewardShapingWrapper)
    env.reset(seed=0)
    again.reset(seed=0)
    assert env.step(1)[1] == again.step(1)[1] != 1.0


def test_outer_monitor_sees_the_shaped_reward() -> None:
    monitor = pytest.importorskip("stable_baselines3.common.monitor").Monitor
    config = RewardConfig(mode="replace", weights={"distance": 200.0})
    env = monitor(wrapped("LunarLander-v3", config, max_episode_steps=10))
    env.reset(seed=0)
    total, done = 0.0, False
    while not done:
        _, _, terminated, truncated, info = env.step(0)
        total += info["reward_components"]["shaped"]
        done = terminated or truncated
    assert info["episode"]["r"] == pytest.approx(total, abs=1e-5)
    assert total < -1000
    assert info["episode"]["l"] == 10


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RewardConfig(mode="add", weights={"fuel": 1.0}), "unknown CartPole-v1 term fuel"),
        (RewardConfig(mode="potential", weights={"push_right": 1.0}), "push_right depends"),
        (RewardConfig(mode="potential", weights={"still": 1.0}), "gamma"),
    ],
)
def test_invalid_reward_is_refused(config: RewardConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardShapingWrapper(gym.make("CartPole-v1"), config)
    with pytest.raises(ValueError, match=message):
        VectorRewardShapingWrapper(SyncVectorEnv([partial(gym.make, "CartPole-v1")]), config)


@pytest.mark.parametrize("gamma", [-1, 1.5, True, float("nan"), "0.9"])
def test_gamma_outside_its_range_is_refused(gamma: Any) -> None:
    with pytest.raises(ValueError, match="gamma must be a number from 0 to 1"):
        RewardShapingWrapper(gym.make("CartPole-v1"), RewardConfig(), gamma=gamma)


@pytest.mark.parametrize("total", [-5, 0, True, float("nan"), "9"])
def test_total_timesteps_must_be_positive(total: Any) -> None:
    with pytest.raises(ValueError, match="total_timesteps must be a positive number"):
        RewardShapingWrapper(gym.make("CartPole-v1"), RewardConfig(), total_timesteps=total)


def test_step_before_reset_is_refused() -> None:
    bare = gym.make("CartPole-v1").unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        RewardShapingWrapper(bare, RewardConfig()).step(0)
    vector = VectorRewardShapingWrapper(SyncVectorEnv([partial(gym.make, "CartPole-v1")]), {})
    with pytest.raises(gym.error.ResetNeeded):
        vector.step(np.zeros(1, dtype=int))


UPRIGHT = RewardConfig(mode="add", weights={"upright": 1.0})


def test_wrapper_is_pickled_in_the_middle_of_an_episode() -> None:
    env = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT)
    env.reset(seed=0)
    env.step(1)
    again = pickle.loads(pickle.dumps(env))  # noqa: S301
    assert env.step(0)[4] == again.step(0)[4]


def test_spec_is_json() -> None:
    env = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    env.reset(seed=0)
    again.reset(seed=0)
    assert env.step(1)[1] == again.step(1)[1]


def test_mapping_is_a_configuration() -> None:
    env = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT.model_dump())
    assert env.kernel.weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="weight"):
        RewardShapingWrapper(gym.make("CartPole-v1"), {"weight": {"upright": 1.0}})


def speed(transition: Transition) -> npt.NDArray[np.float64]:
    return np.abs(transition.next_obs[:, 1])


def test_functions_are_terms() -> None:
    terms = {"speed": speed, "lean": {"python": lambda obs: obs[:, 2], "state_only": True}}
    config = RewardConfig(mode="add", terms=terms, weights={"speed": -1.0})
    env = RewardShapingWrapper(gym.make("CartPole-v1"), config)
    env.reset(seed=0)
    obs, *_, info = env.step(1)
    parts = info["reward_components"]
    assert (parts["speed"], parts["lean"]) == (pytest.approx(abs(obs[1])), pytest.approx(obs[2]))
    named = RewardConfig(mode="add", terms={"speed": speed}, weights={"speed": -1.0})
    assert named.model_dump()["terms"] == {
        "speed": {"python": f"{__name__}:speed", "state_only": False}
    }
    potential = {"mode": "potential", "terms": terms, "weights": {"lean": 1.0}}
    RewardShapingWrapper(gym.make("CartPole-v1"), potential, gamma=0.9)
    of_speed = potential | {"weights": {"speed": 1.0}}
    with pytest.raises(ValueError, match="speed depends on more"):
        RewardShapingWrapper(gym.make("CartPole-v1"), of_speed, gamma=0.9)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_last_step_has_the_sums_of_its_episode(mode: AutoresetMode) -> None:
    make = partial(gym.make, "CartPole-v1")
    vector = VectorRewardShapingWrapper(SyncVectorEnv([make] * 2, autoreset_mode=mode), UPRIGHT)
    env = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT)
    env.reset(seed=4)
    totals: Counter[str] = Counter()
    done = False
    while not done:
        *_, terminated, truncated, info = env.step(1)
        totals.update(info["reward_components"])
        done = terminated or truncated
    sums = {f"sum_{name}": value for name, value in totals.items()}
    assert {name: info[name] for name in sums} == pytest.approx(sums)
    vector.reset(seed=[4, 4])
    for _ in range(int(sums["sum_env_reward"])):
        *_, info = vector.step(np.array([1, 1]))
    assert info["_sum_shaped"][0]
    assert {name: info[name][0] for name in sums} == pytest.approx(sums)


def test_monitor_logs_the_sums() -> None:
    monitor = pytest.importorskip("stable_baselines3.common.monitor").Monitor
    env = monitor(wrapped("CartPole-v1", UPRIGHT), info_keywords=("sum_upright",))
    env.reset(seed=0)
    done = False
    while not done:
        *_, terminated, truncated, info = env.step(1)
        done = terminated or truncated
    assert info["episode"]["sum_upright"] == info["sum_upright"]


class ArrayReward(gym.Wrapper[Any, Any, Any, Any]):
    """Environment whose reward is an array."""

    size = 1

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action)
        return (obs, np.full(self.size, reward), *rest)


def test_array_rewards_have_one_entry() -> None:
    env = ArrayReward(gym.make("CartPole-v1", disable_env_checker=True))
    shaped = RewardShapingWrapper(env, UPRIGHT)
    shaped.reset(seed=0)
    assert shaped.step(1)[4]["reward_components"]["env_reward"] == 1.0
    env.size = 2
    with pytest.raises(ValueError, match=r"array of shape \(2,\), not a number; combine"):
        shaped.step(1)


class Unregistered(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1, 1, (4,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(4), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.full(4, 0.5), 1.0, False, False, {}


@pytest.mark.parametrize("make", [partial(gym.make, "FrozenLake-v1"), Unregistered])
def test_any_environment_can_be_shaped(make: Callable[[], Any]) -> None:
    config = RewardConfig(mode="replace", weights={"far": 2.0}, terms={"far": "obs[0] + 1"})
    env = RewardShapingWrapper(make(), config)
    obs, _ = env.reset(seed=0)
    obs, reward, *_, info = env.step(env.action_space.sample())
    assert reward == pytest.approx(2 * (np.ravel(obs)[0] + 1))
    assert info["reward_components"]["far"] == pytest.approx(np.ravel(obs)[0] + 1)


def test_environment_of_a_study_has_its_options() -> None:
    config = EnvironmentConfig(
        id="LunarLander-v3", options={"gravity": -5.0, "max_episode_steps": 7}
    )
    env = config.make()
    assert env.render_mode is None
    assert env.unwrapped.gravity == -5.0  # type: ignore[attr-defined]
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(7)] == [False] * 6 + [True]
    assert config.make(render_mode="rgb_array").render_mode == "rgb_array"


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_reset_of_some_environments_leaves_the_others(mode: AutoresetMode) -> None:
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([partial(gym.make, "CartPole-v1")] * 2, autoreset_mode=mode),
        {"mode": "add", "terms": {"change": "action - last_action"}, "weights": {"change": 1}},
    )
    vector.reset(seed=0)
    terminated = np.zeros(2, dtype=bool)
    steps = 0
    while not terminated.any():  # the first falls
        _, _, terminated, _, _ = vector.step(np.array([1, steps % 2]))
        steps += 1
    assert terminated.tolist() == [True, False]
    vector.reset(options={"reset_mask": np.array([True, False])})
    _, rewards, _, _, info = vector.step(np.array([1, (steps - 1) % 2]))
    assert info["reward_components"]["change"].tolist() == [0, 0]
    assert rewards.tolist() == [1, 1]
    for _ in range(100):
        _, _, terminated, _, info = vector.step(np.array([0, 1]))
        steps += 1
        if terminated[1]:
            break
    assert info["sum_env_reward"][1] == steps + 1


def test_environment_that_awaits_its_reset_is_not_forgotten() -> None:
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([partial(gym.make, "CartPole-v1")] * 2),
        {"mode": "add", "weights": {"upright": 1}},
    )
    vector.reset(seed=0)
    while not vector.step(np.array([1, 0]))[2][0]:
        pass
    vector.reset(options={"reset_mask": np.array([False, True])})
    rewards = vector.step(np.array([1, 0]))[1]
    assert rewards[0] == 0 < rewards[1]


def test_package_exports_the_wrappers() -> None:
    assert shaperun.RewardShapingWrapper is RewardShapingWrapper
    assert shaperun.VectorRewardShapingWrapper is VectorRewardShapingWrapper
    assert shaperun.RewardConfig is RewardConfig
    with pytest.raises(AttributeError, match="RewardShaper"):
        shaperun.RewardShaper  # noqa: B018


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(wrapper)
    assert results.attempted
    assert not results.failed
