"""What declarations of environments, and the functions in them, must keep to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shaperun.common.errors import ContractError
from shaperun.common.text import truncate

if TYPE_CHECKING:
    from shaperun.envs.base import Environment

# Keys of a step's info and columns of the tables, which no term may be named after.
RESERVED = frozenset(
    {
        *("env_reward", "shaping", "shaped", "schedule", "return", "shaped_return"),
        *("arm", "copy", "done", "episode", "episode_seed", "length", "outcome", "seed"),
        *("success_rate", "terminated", "timesteps", "truncated"),
    }
)


def check_declaration(environment: Environment) -> None:
    """Check the names of a declaration, which columns of the results and formulas have.

    Raises:
        ContractError: a name is no text, occurs twice, or is in use otherwise.
    """
    env_id, names = environment.id, environment.observations
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ContractError(
            f"observations of {env_id} must be the names of its entries, not {wrong[0]!r}"
        )
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise ContractError(f"observations of {env_id} have the name {twice[0]} twice; rename one")
    for kind, declared in (("outcome", environment.outcomes), ("metric", environment.metrics)):
        taken = RESERVED.intersection(declared)
        if taken:
            raise ContractError(
                f"the {kind} {min(taken)} of {env_id} is named after a column of the results; "
                "rename it"
            )
    if why := find_clash(environment.outcomes):
        raise ContractError(f"the outcome success of {env_id} {why}")


def find_clash(outcomes: Any) -> str | None:
    """Return why the outcome named success of some (name -> flag) cannot have that name, or None.

    Its rate would be a second column `success_rate`.
    """
    if outcomes.get("success", True) is True:
        return None
    return "is no success, but success_rate is the rate of successes; rename it"


def check_shape(values: Any, count: int) -> None:
    """Check that a term has one value per transition.

    Raises:
        ContractError: its values have another shape than (count,).
    """
    if np.shape(values) != (count,):
        raise ContractError(f"expected an array of shape ({count},), not {np.shape(values)}")


def check_outcomes(environment: Environment, names: Any, count: int) -> Any:
    """Return the outcomes of episodes as an array (count,).

    Raises:
        ContractError: they have another shape, or are not declared.
    """
    names = np.asarray(names)
    if names.shape != (count,):
        raise ContractError(
            f"the outcome of {environment.id} must return an array with one name per transition, "
            f"({count},), not {truncate(repr(names.tolist()))}"
        )
    unknown = [name for name in names.tolist() if name not in environment.outcomes]
    if unknown:
        raise ContractError(
            f"the outcome of {environment.id} returned {unknown[0]!r}, which its outcomes do not "
            f"declare ({', '.join(map(str, environment.outcomes)) or 'none'}); declare it"
        )
    return names
