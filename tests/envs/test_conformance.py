"""Contract of every environment, term and controller, checked on real episodes."""

import re
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest

from shaperun.envs.base import OWN_REWARD, RESERVED, Controller, Environment, Term, Transition
from shaperun.envs.builtin import environments
from shaperun.envs.metrics import metric_bounds
from shaperun.rewards.config import Mode
from tests.helpers.env_episodes import Act, outcome, play, play_controller

# MuJoCo is optional; `make venv` installs it.
ENVIRONMENTS = [e for e in environments().values() if not e.requires or find_spec(e.requires[0])]
TERMS = [(environment, term) for environment in ENVIRONMENTS for term in environment.terms.values()]
CONTROLLERS = [(e, controller) for e in ENVIRONMENTS for controller in e.controllers.values()]

# Tolerance of own rewards, which are computed from 32-bit observations; LunarLander multiplies
# differences of them by 100.
TOLERANCE = 1e-5
# InvertedDoublePendulum reads its tip up to 0.1 mm away from where the observation has it.
COARSER = {"LunarLander-v3": 1e-4, "LunarLanderContinuous-v3": 1e-4} | {
    "InvertedDoublePendulum-v5": 1e-3
}
# The reward of the last step is replaced by one that depends on more than the transition.
OTHER_ENDS = {"LunarLander-v3", "LunarLanderContinuous-v3"}
# BipedalWalker rewards its exact position, which is not observed; see test_bipedal_walker.py.
HIDDEN_STATE = {"BipedalWalker-v3"}

# No controller is known that stands on the humanoid's point feet, or moves the pusher's object to
# its goal.
NO_SUCCESS = {"Humanoid-v5", "Pusher-v5"}
NONE_LASTS = {"Humanoid-v5"}

each_environment = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.id)


def each(terms: list[tuple[Environment, Term]]) -> pytest.MarkDecorator:
    ids = [f"{environment.id}-{term.name}" for environment, term in terms]
    return pytest.mark.parametrize(("environment", "term"), terms, ids=ids)


each_term = each(TERMS)
each_state_term = each([(e, t) for e, t in TERMS if t.state_only])
each_action_term = each([(e, t) for e, t in TERMS if not t.state_only])
each_controller = pytest.mark.parametrize(
    ("environment", "controller"), CONTROLLERS, ids=[f"{e.id}-{c.name}" for e, c in CONTROLLERS]
)


@cache
def episodes(env_id: str) -> dict[str, Transition]:
    """Play random actions, some of them with a short time limit, and every controller once."""
    environment = environments()[env_id]
    limits = [None] * 4 + [5] * 2
    random = {
        f"random {seed}": play(environment, random_play(env_id, seed), seed, limit=limit)
        for seed, limit in enumerate(limits)
    }
    return random | {name: play_controller(environment, name) for name in environment.controllers}


def random_play(env_id: str, seed: int) -> Act:
    space = gym.make(env_id).action_space
    space.seed(seed)
    return lambda obs: space.sample()


@cache
def all_transitions(env_id: str) -> Transition:
    """Return the transitions of all episodes."""
    transitions = Transition.concatenate(list(episodes(env_id).values()))
    for name in transitions.recorded:
        getattr(transitions, name).flags.writeable = False  # writing to inputs fails
    return transitions


def some_rows(transitions: Transition) -> range:
    return range(0, len(transitions), max(7, len(transitions) // 300))


def test_environments_are_discovered() -> None:
    assert {
        *("LunarLander-v3", "LunarLanderContinuous-v3", "BipedalWalker-v3", "CartPole-v1"),
        *("MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1"),
        *("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "Swimmer-v5"),
        *("Reacher-v5", "Pusher-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5"),
    } <= environments().keys()
    assert all(env_id == environment.id for env_id, environment in environments().items())


@each_environment
def test_entries_of_observations_have_names(environment: Environment) -> None:
    space = gym.make(environment.id).observation_space
    assert space.shape == (len(environment.observations),)
    assert len(set(environment.observations)) == len(environment.observations)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in environment.observations)


@each_environment
def test_action_size_matches_the_action_space(environment: Environment) -> None:
    space = gym.make(environment.id).action_space
    if isinstance(space, gym.spaces.Discrete):
        assert environment.action_size is None
        assert space.start == 0
    else:
        assert space.shape == (environment.action_size,)


@each_environment
def test_solved_is_the_reward_threshold(environment: Environment) -> None:
    assert environment.solved == gym.spec(environment.id).reward_threshold


@each_environment
def test_time_limit_is_that_of_gymnasium(environment: Environment) -> None:
    assert environment.time_limit == gym.spec(environment.id).max_episode_steps


@each_environment
def test_episodes_are_within_their_bounds(environment: Environment) -> None:
    """At every time limit: the first steps of an episode are an episode, too."""
    for steps in episodes(environment.id).values():
        sums = {name: np.cumsum(term(steps)) for name, term in environment.terms.items()}
        totals = {"return": np.cumsum(steps.env_reward)}
        for name, metric in environment.metrics.items():
            parts = [weight * sums[term] for term, weight in metric.terms.items()]
            totals[name] = np.sum(parts, axis=0)
        for limit in {1, 5, len(steps) // 2, len(steps)}:
            known = metric_bounds(replace(environment, time_limit=limit))
            for name in totals.keys() & known.keys():
                low, high = known[name]
                if limit <= len(steps):
                    assert low - 1e-6 <= totals[name][limit - 1] <= high + 1e-6, name


def test_simple_rewards_have_bounds() -> None:
    """Those of the environments that can be known: the others depend on the physics engine."""
    known = {e.id: metric_bounds(e) for e in ENVIRONMENTS}
    physics = {"LunarLander-v3", "LunarLanderContinuous-v3", "BipedalWalker-v3"}
    physics |= {e.id for e in ENVIRONMENTS if e.requires and e.requires[0] == "mujoco"}
    physics -= {"InvertedPendulum-v5"}
    assert {name for name, bounds in known.items() if "return" not in bounds} == physics
    rates = dict.fromkeys(("success_rate", "fell_rate", "off_track_rate"), (0, 1))
    assert known["CartPole-v1"] == rates | dict.fromkeys(("return", "length"), (1, 500))
    assert known["MountainCarContinuous-v0"]["return"] == pytest.approx((-99.9, 100))


@each_environment
def test_outcomes_are_declared(environment: Environment) -> None:
    transitions = all_transitions(environment.id)
    ends = transitions.take(transitions.ended)
    outcomes = environment.outcome(ends).tolist()
    assert len(outcomes) == len(episodes(environment.id))
    assert set(outcomes) <= environment.outcomes.keys()
    one_by_one = [environment.outcome(ends.take(np.array([i])))[0] for i in range(len(ends))]
    assert outcomes == one_by_one


@each_environment
def test_every_outcome_occurs(environment: Environment) -> None:
    names = {outcome(environment, steps) for steps in episodes(environment.id).values()}
    if environment.id == "Pusher-v5":
        names.add("pushed")  # see NO_SUCCESS
    assert names == environment.outcomes.keys()


@each_environment
def test_some_outcome_is_a_success_and_some_is_a_failure(environment: Environment) -> None:
    assert {True, False} <= set(environment.outcomes.values()) <= {True, False, None}


@each_environment
def test_names_are_unique(environment: Environment) -> None:
    """Terms, outcomes and the environment's own reward share one namespace of weights."""
    names = [*environment.terms, *environment.outcomes, OWN_REWARD]
    assert len(set(names)) == len(names)
    assert not RESERVED & {*names, *environment.metrics}
    assert list(environment.built_in) == names


@each_environment
def test_metrics_are_weighted_sums_of_terms(environment: Environment) -> None:
    for metric in environment.metrics.values():
        assert metric.terms
        assert metric.terms.keys() <= environment.terms.keys()


@each_environment
def test_notes_are_keyed_by_mode(environment: Environment) -> None:
    assert environment.notes.keys() <= set(get_args(Mode))


@each_environment
def test_some_term_is_a_state_term(environment: Environment) -> None:
    assert any(term.state_only for term in environment.terms.values())


@each_environment
def test_own_reward_is_a_function_of_the_transition(environment: Environment) -> None:
    own = environment.own_reward
    assert own is not None
    assert (own.__doc__ or "").strip()
    transitions = all_transitions(environment.id)
    values = own(replace(transitions, env_reward=np.full(len(transitions), np.nan)))
    assert values.dtype == np.float64
    assert values.shape == (len(transitions),)
    assert own(transitions.take(np.array([], dtype=int))).shape == (0,)
    for row in some_rows(transitions):
        assert own(transitions.take(np.array([row]))) == values[row]
    if environment.id not in HIDDEN_STATE:
        known = ~(transitions.terminated & (environment.id in OTHER_ENDS))
        tolerance = COARSER.get(environment.id, TOLERANCE)
        assert values[known] == pytest.approx(transitions.env_reward[known], abs=tolerance)


@each_term
def test_terms_have_a_name_and_a_formula(environment: Environment, term: Term) -> None:
    assert environment.terms[term.name] is term
    assert term.name.isidentifier()
    assert term.name.islower()
    assert term.formula.endswith(".")
    assert "\n" not in term.formula


@each_term
def test_values_are_one_finite_float_per_row(environment: Environment, term: Term) -> None:
    transitions = all_transitions(environment.id)
    values = term(transitions)
    assert values.dtype == np.float64
    assert values.shape == (len(transitions),)
    assert np.isfinite(values).all()
    assert len(np.unique(values)) > 1, "a constant term has no effect"
    assert term(transitions.take(np.array([], dtype=int))).shape == (0,)


@each_term
def test_values_do_not_depend_on_the_environment_reward(
    environment: Environment, term: Term
) -> None:
    assert not term.may_need("env_reward")
    transitions = all_transitions(environment.id)
    other = replace(transitions, env_reward=transitions.env_reward + 7)
    assert np.array_equal(term(other), term(transitions))


@each_term
def test_values_depend_only_on_their_row(environment: Environment, term: Term) -> None:
    transitions = all_transitions(environment.id)
    values = term(transitions)
    assert term(transitions).tobytes() == values.tobytes()
    backwards = np.arange(len(transitions))[::-1]
    assert term(transitions.take(backwards)).tolist() == values[backwards].tolist()
    for row in some_rows(transitions):
        assert term(transitions.take(np.array([row]))) == values[row]


@each_state_term
def test_state_term_depends_only_on_the_next_state(environment: Environment, term: Term) -> None:
    transitions = all_transitions(environment.id)
    reversed_rows = transitions.take(np.arange(len(transitions))[::-1])
    same_next_obs = replace(reversed_rows, next_obs=transitions.next_obs)
    assert term(same_next_obs).tobytes() == term(transitions).tobytes()


@each_action_term
def test_action_term_depends_on_the_action(environment: Environment, term: Term) -> None:
    transitions = all_transitions(environment.id)
    rolled = replace(transitions, action=np.roll(transitions.action, 1, axis=0))
    if environment.reads_info and transitions.info is not None:  # which depends on the action
        rolled = replace(rolled, info=np.roll(transitions.info, 1))
    assert (term(rolled) != term(transitions)).any()


@each_environment
def test_some_controller_succeeds_and_some_lasts_to_the_time_limit(
    environment: Environment,
) -> None:
    assert len(environment.controllers) >= 3
    played = [episodes(environment.id)[name] for name in environment.controllers]
    best = max(played, key=lambda steps: float(steps.env_reward.sum()))
    succeeds = environment.outcomes[outcome(environment, best)] is True
    lasts = max(map(len, played)) == gym.spec(environment.id).max_episode_steps
    assert succeeds == (environment.id not in NO_SUCCESS)
    assert lasts == (environment.id not in NONE_LASTS)


@each_controller
def test_controllers_have_a_verb_and_a_description(
    environment: Environment, controller: Controller
) -> None:
    """The verb is an infinitive ("crash"), the description in the third person ("Falls …")."""
    assert environment.controllers[controller.name] is controller
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", controller.name)
    assert not controller.name.endswith("s")
    assert re.fullmatch(r"[A-Z][a-z]*s\b[^.]*\.", controller.description)


@each_controller
def test_controllers_are_deterministic(environment: Environment, controller: Controller) -> None:
    steps = episodes(environment.id)[controller.name]
    again = actions_on(environment, controller, steps)
    assert again.tobytes() == steps.action.tobytes()
    # Another episode in between.
    actions_on(environment, controller, episodes(environment.id)["random 0"])
    assert actions_on(environment, controller, steps).tobytes() == again.tobytes()


def actions_on(environment: Environment, controller: Controller, steps: Transition) -> Any:
    """Return the actions for the read-only observations of an episode."""
    policy = controller.make()
    states = steps.obs.astype(gym.make(environment.id).observation_space.dtype)
    states.flags.writeable = False
    return np.array([policy(obs) for obs in states])
