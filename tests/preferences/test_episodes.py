from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from shaperun.check.behaviours import MAX_EPISODE_STEPS
from shaperun.common.errors import UserError
from shaperun.envs.episodes import held_out_seeds, play_episode
from shaperun.preferences import episodes
from shaperun.preferences.answers import MOMENTS, Subject, parts
from shaperun.preferences.episodes import collect_episodes, discounted, kernel_of_all_terms
from shaperun.runs.open_study import open_study
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study, parse_study

QUIETLY = (lambda _: None, lambda *_: None)


def poles(**changes: object) -> Study:
    return parse_study(
        {
            "study": "poles",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.9}},
            "terms": {"near": "-abs(x)", "push": "action"},
            "arms": {"default": {}},
            **changes,
        }
    )


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "MAX_STARTS", 2)


@pytest.mark.usefixtures("few")
def test_everybody_plays_the_same_starts(tmp_path: Path) -> None:
    told: list[str] = []
    study = poles()
    found = collect_episodes(study, StudyFolder(tmp_path), told.append, QUIETLY[1])
    by_start = {
        start: [q.episode.by for q in some]
        for start, some in groupby(found, lambda question: question.episode.start)
    }
    controllers = [*study.environment.describe().controllers, "do_nothing", "act_randomly"]
    assert list(by_start.values()) == [controllers] * 2
    assert told == [f"{', '.join(controllers)}: 2 episodes each"]
    assert not set(by_start) & set(held_out_seeds(1000))  # what rewards are judged by


@pytest.mark.usefixtures("few")
def test_an_episode_is_summed_up_as_it_was_played(tmp_path: Path) -> None:
    study = poles()
    kernel = kernel_of_all_terms(study)
    env, environment = study.environment.make(), study.environment.describe()
    assert list(kernel.names) == list(Subject.from_study(study).terms)
    for question in collect_episodes(study, StudyFolder(tmp_path), *QUIETLY):
        asked = question.episode
        if asked.by not in environment.controllers:
            continue
        act = environment.controllers[asked.by].make()
        episode = play_episode(env, environment, act, asked.start, max_steps=MAX_EPISODE_STEPS)
        raw, paid = kernel(episode.transition).raw, episode.transition.env_reward
        assert asked.length == len(episode)
        assert asked.env_return == paid.sum()
        factors = 0.9 ** np.arange(len(episode))
        assert asked.sums == pytest.approx((raw * factors[:, None]).sum(0))
        assert asked.undiscounted == pytest.approx(raw.sum(0))
        assert len(asked.states) == min(MOMENTS, len(episode)) == len(parts(len(episode)))
        middles = [part[len(part) // 2] for part in parts(len(episode))]
        assert np.array(asked.states) == pytest.approx(
            episode.transition.next_obs[middles], rel=5e-3
        )
        assert asked.discounted == pytest.approx((paid * factors).sum())
        assert question.strip.count == min(len(episode) + 1, question.strip.count)


def test_discounting_begins_with_the_first_step() -> None:
    assert discounted(np.array([1.0, 10.0, 100.0]), 0.5) == pytest.approx(1 + 5 + 25)
    assert discounted(np.ones((2, 3)), 1.0).tolist() == [2, 2, 2]


@pytest.mark.usefixtures("few")
def test_finished_runs_play_too(trained: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    players = Counter(question.episode.by for question in collect_episodes(study, folder, *QUIETLY))
    assert {"default, seed 0", "guided, seed 0", "default, seed 1"} <= set(players)
    assert set(players.values()) == {2}


def test_an_environment_that_cannot_draw_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "make_renderable", lambda config: None)
    with pytest.raises(UserError, match="cannot draw itself"):
        collect_episodes(poles(), StudyFolder(tmp_path), *QUIETLY)


@pytest.mark.usefixtures("few")
def test_a_term_that_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"these terms will not do: .*broken"):
        collect_episodes(
            poles(terms={"broken": "log(x)"}),
            StudyFolder(tmp_path),
            lambda _: None,
            lambda *_: None,
        )
