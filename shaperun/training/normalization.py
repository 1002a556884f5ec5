"""Running normalization as in VecNormalize, for a step or for a whole rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from shaperun.common.files import read_json, write_json
from shaperun.runs.run_folder import RunFolder


@dataclass(frozen=True)
class ObservationScaling:
    """Frozen statistics of VecNormalize: (obs − mean) / √(var + ε), clipped; shaped like obs."""

    mean: npt.NDArray[np.float64]
    var: npt.NDArray[np.float64]
    epsilon: float
    clip: float

    @classmethod
    def from_envs(cls, envs: VecEnv) -> ObservationScaling | None:
        """Return the current statistics; None if observations are not normalized."""
        if not isinstance(envs, VecNormalize) or not envs.norm_obs:
            return None
        rms: Any = envs.obs_rms
        return cls(rms.mean.copy(), rms.var.copy(), envs.epsilon, envs.clip_obs)

    def __call__(self, obs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Normalize observations (…, *shape)."""
        scaled = (obs - self.mean) / np.sqrt(self.var + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def save(self, folder: RunFolder) -> None:
        """Write the statistics as JSON, which holds every bit of a float."""
        document = {"mean": self.mean.tolist(), "var": self.var.tolist()}
        write_json(folder.normalization, {**document, "epsilon": self.epsilon, "clip": self.clip})

    @classmethod
    def load(cls, folder: RunFolder, shape: tuple[int, ...]) -> ObservationScaling:
        """Read the statistics of observations of a shape.

        Raises:
            UserError: the file does not hold such statistics.
        """
        document = read_json(folder.normalization)
        try:
            mean, var = (np.array(document[name], dtype=np.float64) for name in ("mean", "var"))
            epsilon, clip = float(document["epsilon"]), float(document["clip"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise folder.damage_error(folder.normalization, "it holds no statistics") from None
        numbers = np.concatenate([mean.ravel(), var.ravel(), [epsilon, clip]])
        valid = np.isfinite(numbers).all() and (var >= 0).all() and epsilon > 0 and clip > 0
        if not (valid and mean.shape == var.shape == shape):
            why = f"it holds no statistics of observations of the shape {shape}"
            raise folder.damage_error(folder.normalization, why)
        return cls(mean, var, epsilon, clip)


def normalize_observations(envs: VecEnv, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Update the statistics with observations (N, …) of one step, and normalize them."""
    if not isinstance(envs, VecNormalize) or not envs.norm_obs:
        return obs
    envs.obs_rms.update(obs)
    return normalize_frozen(envs, obs)


def normalize_frozen(envs: VecEnv, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Normalize observations (N, …) by the current statistics."""
    if not isinstance(envs, VecNormalize) or not envs.norm_obs:
        return obs
    rms: Any = envs.obs_rms
    return ObservationScaling(rms.mean, rms.var, envs.epsilon, envs.clip_obs)(obs)


def normalize_rewards(
    envs: VecEnv, rewards: npt.NDArray[np.float32], ended: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Update the statistics with rewards (T, N) of T steps, and normalize them.

    As VecNormalize does at every step: rewards are divided by the standard deviation of the
    discounted returns so far, and clipped. `ended` (T, N) marks the ends of episodes.
    """
    if not isinstance(envs, VecNormalize) or not envs.norm_reward:
        return rewards
    returns = np.empty(rewards.shape)
    for step, reward in enumerate(rewards):
        returns[step] = envs.returns * envs.gamma + reward
        envs.returns = np.where(ended[step], 0.0, returns[step])
    variances = np.empty((len(rewards), 1))
    for step, moments in enumerate(zip(returns.mean(1), returns.var(1), strict=True)):
        envs.ret_rms.update_from_moments(*moments, envs.num_envs)
        variances[step] = envs.ret_rms.var
    scaled = rewards / np.sqrt(variances + envs.epsilon)
    return np.clip(scaled, -envs.clip_reward, envs.clip_reward).astype(np.float32)
