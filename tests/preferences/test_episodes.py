from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from shaperun.check.behaviors import MAX_EPISODE_STEPS
from shaperun.common.errors import UserError
from shaperun.envs.episodes import held_out_seeds, play_episode
from shaperun.preferences import episodes
from shaperun.preferences.answers import MAX_STATES, Subject, split_steps
from shaperun.preferences.episodes import collect_episodes, discount, make_kernel
from shaperun.runs.open_study import open_study
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study, parse_study

SILENT = (lambda _: None, lambda *_: None)


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
def test_all_players_have_the_same_starts(tmp_path: Path) -> None:
    messages: list[str] = []
    study = poles()
    filmed = collect_episodes(study, StudyFolder(tmp_path), messages.append, SILENT[1])
    by_start = {
        start: [item.episode.by for item in group]
        for start, group in groupby(filmed, lambda item: item.episode.start)
    }
    controllers = [*study.environment.describe().controllers, "do_nothing", "act_randomly"]
    assert list(by_start.values()) == [controllers] * 2
    assert messages == [f"{', '.join(controllers)}: 2 episodes each"]
    assert not set(by_start) & set(held_out_seeds(1000))  # rewards are evaluated on those


@pytest.mark.usefixtures("few")
def test_summaries_match_the_episodes(tmp_path: Path) -> None:
    study = poles()
    kernel = make_kernel(study)
    env, environment = study.environment.make(), study.environment.describe()
    assert list(kernel.names) == list(Subject.from_study(study).terms)
    for item in collect_episodes(study, StudyFolder(tmp_path), *SILENT):
        summary = item.episode
        if summary.by not in environment.controllers:
            continue
        act = environment.controllers[summary.by].make()
        episode = play_episode(env, environment, act, summary.start, max_steps=MAX_EPISODE_STEPS)
        raw, paid = kernel(episode.transition).raw, episode.transition.env_reward
        assert summary.length == len(episode)
        assert summary.env_return == paid.sum()
        factors = 0.9 ** np.arange(len(episode))
        assert summary.sums == pytest.approx((raw * factors[:, None]).sum(0))
        assert summary.undiscounted == pytest.approx(raw.sum(0))
        assert (
            len(summary.states) == min(MAX_STATES, len(episode)) == len(split_steps(len(episode)))
        )
        middles = [part[len(part) // 2] for part in split_steps(len(episode))]
        assert np.array(summary.states) == pytest.approx(
            episode.transition.next_obs[middles], rel=5e-3
        )
        assert summary.discounted == pytest.approx((paid * factors).sum())
        assert item.strip.count == min(len(episode) + 1, item.strip.count)


def test_the_first_step_is_not_discounted() -> None:
    assert discount(np.array([1.0, 10.0, 100.0]), 0.5) == pytest.approx(1 + 5 + 25)
    assert discount(np.ones((2, 3)), 1.0).tolist() == [2, 2, 2]


@pytest.mark.usefixtures("few")
def test_policies_of_finished_runs_play(trained: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    players = Counter(item.episode.by for item in collect_episodes(study, folder, *SILENT))
    assert {"default, seed 0", "guided, seed 0", "default, seed 1"} <= set(players)
    assert set(players.values()) == {2}


def test_an_environment_without_rendering_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "make_renderable_env", lambda config, **_: None)
    with pytest.raises(UserError, match="cannot be rendered"):
        collect_episodes(poles(), StudyFolder(tmp_path), *SILENT)


@pytest.mark.usefixtures("few")
def test_a_non_finite_term_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"invalid terms: .*broken"):
        collect_episodes(poles(terms={"broken": "log(x)"}), StudyFolder(tmp_path), *SILENT)
