"""What every environment and every term promises, checked on real episodes of gymnasium's own."""

from dataclasses import replace
from functools import cache
from typing import get_args

import gymnasium as gym
import numpy as np
import pytest

from shaperun.envs import environments
from shaperun.study import Mode
from shaperun.terms import Environment, Term, Transition

ENVIRONMENTS = list(environments().values())
TERMS = [(environment, term) for environment in ENVIRONMENTS for term in environment.terms.values()]

# Names with a meaning of their own beside the terms: in the info of a step, and in the tables.
TAKEN = {"env_reward", "shaping", "shaped", "return", "shaped_return", "success_rate", "length"}

each_environment = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.id)


def each(terms: list[tuple[Environment, Term]]) -> pytest.MarkDecorator:
    ids = [f"{environment.id}-{term.name}" for environment, term in terms]
    return pytest.mark.parametrize(("environment", "term"), terms, ids=ids)


each_term = each(TERMS)
each_state_term = each([(e, t) for e, t in TERMS if t.state_only])
each_action_term = each([(e, t) for e, t in TERMS if not t.state_only])


@cache
def played(env_id: str) -> Transition:
    """Episodes of random play: some to their own end, some cut short by a time limit."""
    limits = [None] * 8 + [5] * 2
    episodes = [play(env_id, seed, limit) for seed, limit in enumerate(limits)]
    steps = [step for episode in episodes for step in episode]
    columns = [np.array(column) for column in zip(*steps, strict=True)]
    for column in columns:
        column.flags.writeable = False  # a term that writes to its inputs fails
    return Transition(*columns)


def play(env_id: str, seed: int, limit: int | None) -> list[tuple[object, ...]]:
    env = gym.make(env_id, max_episode_steps=limit)
    obs, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    steps: list[tuple[object, ...]] = []
    over = False
    while not over:
        action = env.action_space.sample()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        s, s_after = obs.astype(np.float64), next_obs.astype(np.float64)
        steps.append((s, action, s_after, float(reward), terminated, truncated))
        obs, over = next_obs, terminated or truncated
    env.close()
    return steps


def test_both_environments_are_discovered() -> None:
    assert {"LunarLander-v3", "CartPole-v1"} <= environments().keys()
    assert all(env_id == environment.id for env_id, environment in environments().items())


@each_environment
def test_observations_are_named_one_by_one(environment: Environment) -> None:
    space = gym.make(environment.id).observation_space
    assert space.shape == (len(environment.observations),)
    assert len(set(environment.observations)) == len(environment.observations)


@each_environment
def test_solved_is_what_gymnasium_says(environment: Environment) -> None:
    threshold = gym.spec(environment.id).reward_threshold
    assert threshold is None or environment.solved == threshold


@each_environment
def test_episodes_end_with_declared_outcomes(environment: Environment) -> None:
    transitions = played(environment.id)
    ends = transitions.take(transitions.terminated | transitions.truncated)
    outcomes = environment.outcome(ends).tolist()
    assert len(outcomes) == 10
    assert set(outcomes) <= environment.outcomes.keys()
    assert len(set(outcomes)) >= 2
    one_by_one = [environment.outcome(ends.take(np.array([i])))[0] for i in range(10)]
    assert outcomes == one_by_one


@each_environment
def test_some_outcome_is_a_success_and_some_a_failure(environment: Environment) -> None:
    assert {True, False} <= set(environment.outcomes.values()) <= {True, False, None}


@each_environment
def test_metrics_are_weighted_sums_of_terms(environment: Environment) -> None:
    assert not environment.metrics.keys() & TAKEN
    for weights in environment.metrics.values():
        assert weights
        assert weights.keys() <= environment.terms.keys()


@each_environment
def test_notes_are_about_modes(environment: Environment) -> None:
    assert environment.notes.keys() <= set(get_args(Mode))


@each_environment
def test_there_are_terms_to_make_a_potential_of(environment: Environment) -> None:
    assert any(term.state_only for term in environment.terms.values())


@each_term
def test_names_and_formulas(environment: Environment, term: Term) -> None:
    assert environment.terms[term.name] is term
    assert term.name.isidentifier()
    assert term.name.islower()
    assert term.name not in TAKEN
    assert term.formula.endswith(".")


@each_term
def test_values_are_finite_floats_one_a_row(environment: Environment, term: Term) -> None:
    transitions = played(environment.id)
    values = term(transitions)
    assert values.dtype == np.float64
    assert values.shape == (len(transitions),)
    assert np.isfinite(values).all()
    assert len(np.unique(values)) > 1, "a term that never changes teaches nothing"
    assert term(transitions.take(np.array([], dtype=int))).shape == (0,)


@each_term
def test_values_depend_on_nothing_but_the_row(environment: Environment, term: Term) -> None:
    transitions = played(environment.id)
    values = term(transitions)
    assert term(transitions).tobytes() == values.tobytes()
    backwards = np.arange(len(transitions))[::-1]
    assert term(transitions.take(backwards)).tolist() == values[backwards].tolist()
    for row in range(0, len(transitions), 7):
        assert term(transitions.take(np.array([row]))) == values[row]


@each_state_term
def test_a_state_term_sees_only_the_next_state(environment: Environment, term: Term) -> None:
    transitions = played(environment.id)
    others = transitions.take(np.arange(len(transitions))[::-1])
    elsewhere = replace(others, next_obs=transitions.next_obs)
    assert term(elsewhere).tobytes() == term(transitions).tobytes()


@each_action_term
def test_an_action_term_depends_on_the_action(environment: Environment, term: Term) -> None:
    transitions = played(environment.id)
    rolled = replace(transitions, action=np.roll(transitions.action, 1))
    assert (term(rolled) != term(transitions)).any()
