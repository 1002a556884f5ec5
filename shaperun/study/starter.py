"""Write a first study of any environment, from its declaration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from shaperun.envs.base import OWN_REWARD, Environment, Term
from shaperun.envs.layout import iter_arrays

_STUDY = """\
# A study compares rewards ("arms") by training an agent on each of them, with several seeds.
{commands}
study: {name}

environment:
  id: {id}{limit}{wrappers}

training:
  algorithm: PPO                # or {others}
  total_timesteps: 100_000      # environment steps per run
  n_envs: 8                     # parallel copies of the environment per run
  normalize: {{observations: {normalize}, rewards: false}}    # scale what the agent sees
  hyperparameters: {{n_steps: 256, batch_size: 256, gamma: 0.99}}

seeds: 5                        # runs per arm

# Weights may name
{terms}
# Formulas may use
{names}
arms:                           # the first arm without a mode is the baseline
  default: {{}}                   # the environment's own reward r, unchanged
{arms}"""
_LIMIT = """
  options: {max_episode_steps: 500}    # gymnasium knows no time limit; or, if all episodes end:
  # ends_itself: true"""
_WRAPPERS = """
  # wrappers:                   # for the learner only; formulas read obs as the environment has it
  #   - GrayscaleObservation    # pip install opencv-python-headless
  #   - {FrameStackObservation: {stack_size: 4}}"""
_GUIDED = """
  guided:                       # r + γ Φ(s′) − Φ(s), which keeps the optimal policy unchanged
    mode: potential
    weights: {{{term}: 1}}
"""
_SHAPED = """
  calm:                         # the agent is trained on r + Σ weight · term
    mode: add
    terms: {{calm: {formula}}}
    weights: {{calm: 0.01}}

  # guided:                     # a formula of the state keeps the optimal policy in this mode
  #   mode: potential
  #   terms: {{example: {potential}}}
  #   weights: {{example: 1}}
"""


def write_starter(environment: Environment, commands: Sequence[str], others: Sequence[str]) -> str:
    """Return a study of an environment that trains as it is, in YAML with comments.

    `commands` are shown at its top; `others` are learners besides PPO.
    """
    state_terms = [name for name, term in environment.terms.items() if term.state_only]
    discrete = environment.action_size is None
    formula = "0 if action == last_action else -1" if discrete else "-sum(square(action))"
    arms = _GUIDED.format(term=state_terms[0]) if state_terms else ""
    if not arms:
        name, shape = next(iter_arrays("obs", environment.observation_layout))
        first = f"{name}[{', '.join('0' for _ in shape)}]" if shape else name
        example = f"-mean({name})" if len(shape) > 1 else f"-abs({first})"
        potential = json.dumps(example, ensure_ascii=False)
        arms = _SHAPED.format(formula=json.dumps(formula, ensure_ascii=False), potential=potential)
    view = environment.learner_view
    measured = not (view.indices or view.is_picture)
    env_id = environment.id
    name = re.sub(r"[^a-z0-9_]+", "-", env_id.rpartition(":")[2].lower()).strip("-")
    return _STUDY.format(
        commands="\n".join(f"#   {command}" for command in commands),
        name=name[:64] or "my-study",
        id=env_id if re.fullmatch(r"[A-Za-z][\w./:-]*", env_id) else json.dumps(env_id),
        limit=_LIMIT if environment.time_limit is None else "",
        wrappers=_WRAPPERS if view.is_picture else "",
        others=", ".join(others),
        normalize=str(measured).lower(),
        terms="\n".join(_list_terms(environment)),
        names="\n".join(f"#   {name}" for name in list_names(environment)),
        arms=arms,
    )


def _list_terms(environment: Environment) -> Iterator[str]:
    for term in environment.built_in.values():
        scope, formula = describe_scope(environment, term), " ".join(term.formula.split())
        yield f"#   {term.name} ({scope}): {formula}"


def describe_scope(environment: Environment, term: Term) -> str:
    """Return what a built-in term depends on: reward, state, outcome or action."""
    if term.name == OWN_REWARD:
        return "reward"
    if term.state_only:
        return "state"
    return "outcome" if term.name in environment.outcomes else "action"


def list_names(environment: Environment) -> Iterator[str]:
    """Yield the names of observations and actions, with their indices."""
    yield from environment.observations
    for name, shape in iter_arrays("obs", environment.observation_layout):
        yield _format_indices(name, shape) if shape else name
    size = environment.action_size
    yield "action (an integer)" if size is None else _format_indices("action", (size,))
    yield "last_… for the value of the previous step, env_reward, terminated, truncated"
    yield 'info["…"] for what a step reports'


def _format_indices(name: str, shape: Sequence[int]) -> str:
    first, last = (", ".join(map(str, i)) for i in ([0] * len(shape), [n - 1 for n in shape]))
    return f"{name}[{first}]" if first == last else f"{name}[{first}] … {name}[{last}]"
