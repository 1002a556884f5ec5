"""Which episodes are shown, what is told of them, and the formats they are written in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image

from shaperun.analysis import results
from shaperun.common.errors import UserError
from shaperun.envs.episodes import held_out_seeds
from shaperun.report import gif, record_gif, video
from shaperun.report.record_gif import EpisodeChoice, record_gifs
from shaperun.rewards.wrapper import RewardShapingWrapper
from shaperun.runs.plan import planned_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from shaperun.study.models import RunConfig, Study, parse_study
from shaperun.training.evaluation import Evaluation
from shaperun.training.replay import replay
from tests.conftest import Shaperun

REWARDS: dict[str, dict[str, Any]] = {
    "log": {"mode": "log", "weights": {"upright": 1}},
    "add": {"mode": "add", "weights": {"upright": 2, "push_right": 0.5}, "scale": 3},
    "replace": {"mode": "replace", "weights": {"upright": 1, "fell": -10}},
    "replace with its own": {"mode": "replace", "weights": {"upright": 1, "environment": 2}},
    "potential": {"mode": "potential", "weights": {"upright": 5, "centred": 1}},
    "add its own": {"mode": "add", "weights": {"environment": 0.5, "centred": 1}},
}
SCHEDULE = {"kind": "linear", "from": 1, "to": 0.25, "until": 1}


def config(reward: dict[str, Any]) -> RunConfig:
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 100, "hyperparameters": {"gamma": 0.9}},
            "arms": {"arm": reward},
        }
    )
    return study.run_config(study.arms["arm"], 0)


def lean(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Push where the pole leans: falls after some dozens of steps."""
    return np.asarray(obs[:, 2] > 0).astype(np.int64)


def dot(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return frame[:1, :1]


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", REWARDS)
def test_what_is_paid_adds_up_to_the_recorded_return(name: str, scheduled: bool) -> None:
    if scheduled and name == "log":
        return
    run = config(REWARDS[name] | ({"schedule": SCHEDULE} if scheduled else {}))
    evaluation = Evaluation(run)
    recorded = evaluation(lean, 3, 1.0)[2]
    evaluation.close()
    played = replay(run, lean, held_out_seeds(3)[2], dot)
    assert len(played.frames) == recorded["length"] + 1  # type: ignore[operator]
    assert played.outcome == recorded["outcome"]
    assert played.returns[-1] == recorded["return"]
    assert {len(values) for values in played.contributions.values()} == {len(played.frames)}
    assert all(values[0] == 0 for values in played.contributions.values())
    total = sum(values[-1] for values in played.contributions.values())
    assert total == pytest.approx(recorded["shaped_return"], abs=1e-6)


@pytest.mark.parametrize("name", REWARDS)
def test_it_adds_up_at_every_step(name: str) -> None:
    """Beside the wrapper that training uses, step by step."""
    run = config(REWARDS[name])
    env = RewardShapingWrapper(run.environment.make(), run.reward, gamma=0.9, total_timesteps=100)
    obs, _ = env.reset(seed=held_out_seeds(1)[0])
    seen, over = [0.0], False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(int(lean(np.asarray(obs)[None])[0]))
        seen.append(seen[-1] + float(reward))
        over = terminated or truncated
    played = replay(run, lean, held_out_seeds(1)[0], dot)
    assert np.sum([*played.contributions.values()], axis=0) == pytest.approx(seen, abs=1e-6)


def test_terms_without_a_weight_are_not_shown() -> None:
    def parts(name: str) -> list[str]:
        return list(replay(config(REWARDS[name]), lean, 1, dot).contributions)

    assert parts("log") == ["environment"]
    assert parts("add") == ["environment", "upright", "push_right"]
    assert parts("replace") == ["upright", "fell"]
    assert parts("replace with its own") == ["upright", "environment"]
    assert parts("add its own") == ["environment", "centred"]


@pytest.fixture(scope="module")
def study(trained: Path) -> Study:
    return load_study(trained / "tiny.yaml")


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> StudyFolder:
    """The trained study's folder, which a test may change."""
    return StudyFolder(Path(shutil.copytree(trained / "results" / "tiny", tmp_path / "tiny")))


@pytest.fixture
def final(study: Study, folder: StudyFolder) -> pl.DataFrame:
    runs = planned_runs(study, study.arms)
    return results.final_episodes(results.evaluation_episodes(folder, runs))


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[list[gif.Clip]]:
    """What would be drawn; drawing it is tested elsewhere and takes longer."""
    drawn: list[list[gif.Clip]] = []

    def write(path: Path, shown: list[gif.Clip]) -> Path:
        drawn.append(shown)
        return path

    monkeypatch.setattr(record_gif, "_write", write)
    return drawn


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_arms_stand_side_by_side_on_the_same_start(
    study: Study, folder: StudyFolder, final: pl.DataFrame, clips: list[list[gif.Clip]]
) -> None:
    told: list[str] = []
    paths = record_gifs(study, folder, choice=EpisodeChoice(), log=told.append)
    assert names(paths) == ["default.gif", "guided.gif", "side-by-side.gif"]
    first = held_out_seeds(1)[0]
    assert all(f"episode {first}" in clip.note for clip in clips[-1])
    assert all("median of 2 runs" in clip.note for clip in clips[-1])
    for clip, sentence in zip(clips[-1], told, strict=True):
        seed = int(sentence.split("run ")[1].split(",")[0])
        recorded = final.filter(arm=clip.arm, seed=seed, episode=0)
        assert sum(values[-1] for values in clip.contributions.values()) == pytest.approx(
            recorded["shaped_return"].item(), abs=1e-6
        )


@pytest.mark.parametrize(("pick", "place"), [("best", -1), ("median", 7), ("worst", 0)])
def test_a_pick_is_among_all_episodes_of_an_arm(
    pick: record_gif.Pick,
    place: int,
    study: Study,
    folder: StudyFolder,
    final: pl.DataFrame,
    clips: list[list[gif.Clip]],
) -> None:
    paths = record_gifs(study, folder, choice=EpisodeChoice(pick=pick), log=lambda text: None)
    assert names(paths) == [f"{name}-{pick}.gif" for name in ("default", "guided", "side-by-side")]
    for clip in clips[-1]:
        returns = final.filter(arm=clip.arm)["return"].sort().to_list()
        assert len(returns) == 16
        assert clip.returns[-1] == returns[place]
        assert f"{pick} of 16 episodes" in clip.note


def test_a_failure_is_one_of_those_that_failed(
    study: Study,
    folder: StudyFolder,
    clips: list[list[gif.Clip]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mostly_fine(episodes: pl.DataFrame) -> pl.DataFrame:
        """As if only one episode had failed, of the arm guided."""
        failed = (pl.col("arm") == "guided") & (pl.col("seed") == 1) & (pl.col("episode") == 3)
        outcome = pl.when(failed).then(pl.lit("fell")).otherwise(pl.lit("balanced"))
        return final_episodes(episodes).with_columns(outcome=outcome)

    final_episodes, told = results.final_episodes, list[str]()
    monkeypatch.setattr(results, "final_episodes", mostly_fine)
    paths = record_gifs(study, folder, choice=EpisodeChoice(pick="failure"), log=told.append)
    assert names(paths) == ["guided-failure.gif"]  # and nothing to stand beside
    assert told[0] == "default: none of its 16 final episodes is a failure; left out"
    assert clips[0][0].note.startswith("its only failure  ·  run 1")
    assert f"run 1  ·  episode {held_out_seeds(4)[3]}" in clips[0][0].note
    with pytest.raises(UserError, match=r"none of the 16 final episodes is a failure \(fell, off"):
        record_gifs(
            study, folder, arms=["default"], choice=EpisodeChoice(pick="failure"), log=told.append
        )


def test_an_environment_without_failures_has_none_to_pick(
    study: Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_gif, "_failing", lambda study: [])
    with pytest.raises(UserError, match="does not say which outcomes are failures; use --pick wo"):
        record_gifs(study, folder, choice=EpisodeChoice(pick="failure"), log=lambda text: None)


def test_an_episode_is_named_by_its_seed(
    study: Study, folder: StudyFolder, clips: list[list[gif.Clip]]
) -> None:
    third = held_out_seeds(3)[2]
    told: list[str] = []
    paths = record_gifs(
        study, folder, choice=EpisodeChoice(seed=1, episode_seed=third), log=told.append
    )
    assert names(paths)[-1] == f"side-by-side-seed-1-episode-{third}.gif"
    assert all(clip.note == f"run 1  ·  episode {third}" for clip in clips[-1])
    assert not any("trained elsewhere" in text for text in told)


def test_what_cannot_be_shown_is_said_before_anything_is_played(
    study: Study, folder: StudyFolder, clips: list[list[gif.Clip]]
) -> None:
    known = ", ".join(str(seed) for seed in held_out_seeds(3))
    with pytest.raises(UserError, match=rf"the 8 that were played .*evaluations.csv: {known}, …"):
        record_gifs(study, folder, choice=EpisodeChoice(episode_seed=5), log=print)
    with pytest.raises(UserError, match="no run of tiny with seed 9 is finished"):
        record_gifs(study, folder, choice=EpisodeChoice(seed=9, pick="best"), log=print)
    with pytest.raises(UserError, match="give only one of them"):
        EpisodeChoice(episode_seed=5, pick="best")
    assert not clips


def moving(count: int, hold: int) -> list[npt.NDArray[np.uint8]]:
    """A block that moves over a picture of odd sizes, then stands still."""
    frames = []
    for step in [*range(count), *[count - 1] * hold]:
        frame = np.full((61, 83, 3), 255, np.uint8)
        frame[20:40, step : step + 20] = (213, 94, 0)
        frames.append(frame)
    return frames


def test_webp_shows_the_same_for_as_long(tmp_path: Path) -> None:
    frames = moving(10, hold=5)
    video.write(tmp_path / "a.webp", frames, delay_ms=40)
    with Image.open(tmp_path / "a.webp") as image:
        assert (image.format, image.info["loop"], getattr(image, "n_frames", 1)) == ("WEBP", 0, 10)
        shown, ms = [], []
        for place in range(10):
            image.seek(place)
            shown.append(np.asarray(image.convert("RGB")))
            ms.append(image.info["duration"])
    assert np.array_equal(np.stack(shown), np.stack(frames[:10]))
    assert ms == [40] * 9 + [240]


def test_mp4_shows_the_same_for_as_long(tmp_path: Path) -> None:
    frames = moving(10, hold=5)
    video.write(tmp_path / "a.mp4", frames, delay_ms=40)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 25
        assert stream.pix_fmt == "yuv420p"
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert container.duration == 15 * 40_000  # µs
    assert np.stack(shown).shape == (15, 62, 84, 3)
    off = np.abs(np.stack(shown)[:, :61, :83].astype(int) - np.stack(frames))
    assert off.mean() < 3


@pytest.mark.parametrize("kind", ["gif", "webp", "mp4"])
def test_the_same_frames_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for path in paths:
        video.write(path, moving(6, hold=2), delay_ms=40)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_extra_that_is_missing_is_named(
    study: Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "shaperun\[mp4\]"'):
        record_gifs(study, folder, choice=EpisodeChoice(), kind="mp4", log=print)
    video.require("gif")
    video.require("webp")


def test_the_command_takes_a_pick_and_a_format(
    trained: Path, tmp_path: Path, shaperun: Shaperun
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    done = shaperun("record-gif", "tiny", "--pick", "worst", "--format", "mp4", "--arms", "guided")
    assert done.returncode == 0, done.stderr
    made = tmp_path / "results" / "tiny" / "gifs" / "guided-worst.mp4"
    assert done.stdout.split() == [str(made.relative_to(tmp_path))]
    with av.open(str(made)) as container:
        assert container.duration
    both = shaperun("record-gif", "tiny", "--pick", "best", "--episode-seed", "1")
    assert (both.returncode, "only one of them" in both.stderr) == (2, True)
    assert "[mp4]" in " ".join(shaperun("record-gif", "--help").stdout.split())
