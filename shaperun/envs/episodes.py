"""Whole episodes: held-out seeds, playing one, and stacking their transitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shaperun.common.errors import ContractError, exits_as_errors
from shaperun.envs.base import Environment, Transition, scalar_reward
from shaperun.envs.info import Info, record_info
from shaperun.envs.layout import flatten_rows

if TYPE_CHECKING:
    import gymnasium as gym

# An arbitrary constant that must not change: it determines the held-out episodes of all studies.
_ENTROPY = 0x5EED_0F_E7A1


def held_out_seeds(count: int) -> list[int]:
    """Return reset seeds of the held-out episodes; a smaller count gives a prefix of a larger one.

    They are below 2³²; training environments are seeded above that.
    """
    return [int(n) for n in np.random.SeedSequence(_ENTROPY).generate_state(count, np.uint32)]


class ObservationError(ContractError):
    """An observation in `row` of a batch has an entry that is not finite."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(f"{message}; correct the environment")
        self._message, self.row = message, row

    def at(self, episode: int, step: int) -> ObservationError:
        """Return the error with its position; both numbers count from 0, and step 0 is a reset."""
        return ObservationError(f"{self._message} (episode {episode}, step {step})", self.row)


def check_observations(obs: npt.NDArray[Any], env_id: str) -> None:
    """Check that observations (N, …) are finite.

    Raises:
        ObservationError: an entry is not; the message names the first one.
    """
    if obs.dtype.kind != "f" or np.isfinite(obs).all():
        return
    row, *entry = map(int, np.argwhere(~np.isfinite(obs))[0])
    where = f" at entry {', '.join(map(str, entry))}" if entry else ""
    raise ObservationError(f"the observation of {env_id} is {obs[row, *entry]}{where}", row)


@dataclass(frozen=True)
class Episode:
    """One episode of T steps: its transitions (T,) in order and its outcome.

    It is cut if the environment had not ended it.
    """

    transition: Transition
    outcome: str
    cut: bool = False

    def __len__(self) -> int:
        return len(self.transition)


@exits_as_errors()
def play_episode(
    env: gym.Env[Any, Any],
    environment: Environment,
    act: Callable[[Any], Any],
    seed: int,
    *,
    on_step: Callable[[float], None] | None = None,
    max_steps: float = float("inf"),
) -> Episode:
    """Play one episode of an unshaped environment to its end, or for `max_steps`.

    The policy maps an observation as the environment returns it to an action; `seed` is that of the
    reset. `on_step` is called with 0 after the reset and with the reward after every step.
    """
    obs, _ = env.reset(seed=seed)
    if on_step:
        on_step(0.0)
    # Copies, since an environment or a policy may return the same array every time, and change it.
    states, actions, env_rewards, infos = [_base_obs(env, obs)], [], [], []
    terminated = truncated = cut = False
    while not (terminated or truncated):
        action = act(obs)
        taken = np.array(action)
        obs, reward, terminated, truncated, info = env.step(action)
        states.append(_base_obs(env, obs))
        actions.append(np.array(_base_action(env, taken)))
        infos.append(record_info(info))
        env_rewards.append(scalar_reward(reward))
        terminated, truncated = bool(terminated), bool(truncated)
        cut = not (terminated or truncated) and len(actions) >= max_steps
        truncated = truncated or cut
        if on_step:
            on_step(env_rewards[-1])
    ended = terminated, truncated
    transition = episode_transitions(states, actions, env_rewards, infos, *ended)
    return Episode(transition, str(environment.name_outcomes(transition)[0]), cut)


@dataclass
class EpisodeBuilder:
    """An unfinished episode of a policy that plays several; it has one more state than steps.

    `obs` is the latest observation as the policy sees it, in the type of its space, and `states`
    are the environment's own.
    """

    env: gym.Env[Any, Any]
    index: int
    seed: int
    obs: npt.NDArray[Any]
    states: list[npt.NDArray[Any]]
    actions: list[Any] = field(default_factory=list)
    env_rewards: list[float] = field(default_factory=list)
    infos: list[Info] = field(default_factory=list)
    ended: tuple[bool, bool] = (False, False)  # terminated, truncated

    @classmethod
    def begin(cls, env: gym.Env[Any, Any], index: int, seed: int) -> EpisodeBuilder:
        """Reset the environment and return a new episode."""
        obs, _ = env.reset(seed=seed)
        return cls(env, index, seed, _seen(env, obs), [_base_obs(env, obs)])

    def step(self, action: Any) -> bool:
        """Take a step; return whether the episode has ended."""
        taken = action.copy() if isinstance(action, np.ndarray) else action  # as in play_episode
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.obs = _seen(self.env, obs)
        self.states.append(_base_obs(self.env, obs))
        self.actions.append(_base_action(self.env, taken))
        self.env_rewards.append(scalar_reward(reward))
        self.infos.append(record_info(info))
        self.ended = bool(terminated), bool(truncated)
        return any(self.ended)

    def transitions(self) -> Transition:
        """Return the steps so far (T,)."""
        return episode_transitions(
            self.states, self.actions, self.env_rewards, self.infos, *self.ended
        )


def _seen(env: gym.Env[Any, Any], obs: Any) -> npt.NDArray[Any]:
    """Return a copy of an observation in the type of its space."""
    return np.array(obs, dtype=env.observation_space.dtype)


def _base_obs(env: gym.Env[Any, Any], obs: Any) -> npt.NDArray[Any]:
    """Return a copy of the environment's own observation behind what a policy sees."""
    base: Any = getattr(env, "base", None)
    return np.array(base.obs if base else obs)


def _base_action(env: gym.Env[Any, Any], action: Any) -> Any:
    """Return the action that the environment took for an action of a policy."""
    base: Any = getattr(env, "base", None)
    return base.action if base else action


def episode_transitions(
    states: Sequence[Any],
    actions: Sequence[Any],
    env_rewards: Sequence[float],
    infos: Sequence[Info],
    terminated: bool,
    truncated: bool,
) -> Transition:
    """Return an episode of T steps as transitions (T,), from its T + 1 states.

    Raises:
        ContractError: the shapes of the states differ.
    """
    shapes = [*dict.fromkeys(map(np.shape, states))]
    if len(shapes) > 1:
        raise ContractError(
            f"an observation has shape {shapes[1]}, and one before it {shapes[0]}; correct the "
            "environment"
        )
    all_states, all_actions = flatten_rows(states), np.array(actions)
    last = np.arange(len(actions)) == len(actions) - 1
    return Transition(
        obs=all_states[:-1],
        action=all_actions,
        next_obs=all_states[1:],
        env_reward=np.array(env_rewards),
        terminated=last & terminated,
        truncated=last & truncated,
        last_action=np.concatenate([all_actions[:1], all_actions[:-1]]),
        info=np.array(infos, dtype=object),
    )


def concatenate_episodes(episodes: list[Episode]) -> tuple[Transition, npt.NDArray[np.intp]]:
    """Return the transitions of all episodes in order, and the index at which each begins."""
    transitions = Transition.concatenate([episode.transition for episode in episodes])
    lengths = [len(episode) for episode in episodes]
    return transitions, np.cumsum([0, *lengths[:-1]], dtype=np.intp)
