"""The choice of episodes, their captions, and the file formats."""

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
from shaperun.analysis.results import LoadedRuns
from shaperun.common.errors import UserError
from shaperun.envs.episodes import held_out_seeds
from shaperun.report import gif, record_gif, video
from shaperun.report.record_gif import EpisodeChoice, record_gifs
from shaperun.rewards.wrapper import RewardShapingWrapper
from shaperun.runs.plan import plan_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from shaperun.study.models import RunConfig, Study, parse_study
from shaperun.training.evaluation import Evaluation
from shaperun.training.replay import replay_episode
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
    """Push in the direction of the lean, which fails after some dozens of steps."""
    return np.asarray(obs[:, 2] > 0).astype(np.int64)


def dot(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return frame[:1, :1]


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", REWARDS)
def test_contributions_add_up_to_the_recorded_return(name: str, scheduled: bool) -> None:
    if scheduled and name == "log":
        return
    run = config(REWARDS[name] | ({"schedule": SCHEDULE} if scheduled else {}))
    evaluation = Evaluation(run)
    recorded = evaluation(lean, 3, 1.0)[2]
    evaluation.close()
    played = replay_episode(run, lean, held_out_seeds(3)[2], dot)
    assert len(played.frames) == recorded["length"] + 1  # type: ignore[operator]
    assert played.outcome == recorded["outcome"]
    assert played.returns[-1] == recorded["return"]
    assert {len(values) for values in played.contributions.values()} == {len(played.frames)}
    assert all(values[0] == 0 for values in played.contributions.values())
    total = sum(values[-1] for values in played.contributions.values())
    assert total == pytest.approx(recorded["shaped_return"], abs=1e-6)


@pytest.mark.parametrize("name", REWARDS)
def test_contributions_add_up_at_every_step(name: str) -> None:
    """Compare with the wrapper that training uses, step by step."""
    run = config(REWARDS[name])
    env = RewardShapingWrapper(run.environment.make(), run.reward, gamma=0.9, total_timesteps=100)
    obs, _ = env.reset(seed=held_out_seeds(1)[0])
    seen, over = [0.0], False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(int(lean(np.asarray(obs)[None])[0]))
        seen.append(seen[-1] + float(reward))
        over = terminated or truncated
    played = replay_episode(run, lean, held_out_seeds(1)[0], dot)
    assert np.sum([*played.contributions.values()], axis=0) == pytest.approx(seen, abs=1e-6)


def test_only_frames_that_are_drawn_are_rendered() -> None:
    """CartPole has 50 frames per second, of which every second one is drawn."""
    rendered: list[int] = []

    def count(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        rendered.append(len(rendered))
        return dot(frame)

    played = replay_episode(config(REWARDS["log"]), lean, held_out_seeds(1)[0], count)
    steps = len(played.frames) - 1
    assert len(rendered) == steps // 2 + 2
    assert all(a is b for a, b in zip(played.frames[:-1:2], played.frames[1:-1:2], strict=False))


def test_terms_without_a_weight_are_left_out() -> None:
    def parts(name: str) -> list[str]:
        return list(replay_episode(config(REWARDS[name]), lean, 1, dot).contributions)

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
    """A copy of the trained study's folder, which tests may change."""
    return StudyFolder(Path(shutil.copytree(trained / "results" / "tiny", tmp_path / "tiny")))


@pytest.fixture
def final(study: Study, folder: StudyFolder) -> pl.DataFrame:
    runs = plan_runs(study, study.arms)
    return results.final_episodes(LoadedRuns(folder).episodes(runs))


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[list[gif.Clip]]:
    """The clips that would be drawn; drawing them is slow and tested elsewhere."""
    drawn: list[list[gif.Clip]] = []

    def write(path: Path, shown: list[gif.Clip]) -> Path:
        drawn.append(shown)
        return path

    monkeypatch.setattr(record_gif, "_write", write)
    return drawn


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_all_arms_show_the_same_episode(
    study: Study, folder: StudyFolder, final: pl.DataFrame, clips: list[list[gif.Clip]]
) -> None:
    messages: list[str] = []
    paths = record_gifs(study, LoadedRuns(folder), choice=EpisodeChoice(), log=messages.append)
    assert names(paths) == ["default.gif", "guided.gif", "side-by-side.gif"]
    first = held_out_seeds(1)[0]
    assert all(f"episode {first}" in clip.note for clip in clips[-1])
    assert all("lower median of 2 runs" in clip.note for clip in clips[-1])
    for clip, sentence in zip(clips[-1], messages, strict=True):
        seed = int(sentence.split("seed ")[1].split(",")[0])
        recorded = final.filter(arm=clip.arm, seed=seed, episode=0)
        assert sum(values[-1] for values in clip.contributions.values()) == pytest.approx(
            recorded["shaped_return"].item(), abs=1e-6
        )


@pytest.mark.parametrize(("pick", "index"), [("best", -1), ("median", 7), ("worst", 0)])
def test_pick_chooses_among_all_episodes_of_an_arm(
    pick: record_gif.Pick,
    index: int,
    study: Study,
    folder: StudyFolder,
    final: pl.DataFrame,
    clips: list[list[gif.Clip]],
) -> None:
    paths = record_gifs(
        study, LoadedRuns(folder), choice=EpisodeChoice(pick=pick), log=lambda text: None
    )
    assert names(paths) == [f"{name}-{pick}.gif" for name in ("default", "guided", "side-by-side")]
    for clip in clips[-1]:
        returns = final.filter(arm=clip.arm)["return"].sort().to_list()
        assert len(returns) == 16
        assert clip.returns[-1] == returns[index]
        name = "lower median" if pick == "median" else pick
        assert clip.note.startswith(f"{name} of 16 episodes")


def test_failure_is_picked_among_failed_episodes(
    study: Study,
    folder: StudyFolder,
    clips: list[list[gif.Clip]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mostly_fine(episodes: pl.DataFrame) -> pl.DataFrame:
        """Make a single episode fail, of the arm guided."""
        failed = (pl.col("arm") == "guided") & (pl.col("seed") == 1) & (pl.col("episode") == 3)
        outcome = pl.when(failed).then(pl.lit("fell")).otherwise(pl.lit("balanced"))
        return final_episodes(episodes).with_columns(outcome=outcome)

    final_episodes, messages = results.final_episodes, list[str]()
    monkeypatch.setattr(results, "final_episodes", mostly_fine)
    paths = record_gifs(
        study, LoadedRuns(folder), choice=EpisodeChoice(pick="failure"), log=messages.append
    )
    assert names(paths) == ["guided-failure.gif"]
    assert messages[0] == "default: no failure in 16 final episodes; left out"
    assert clips[0][0].note.startswith("its only failure  ·  seed 1")
    assert f"seed 1  ·  episode {held_out_seeds(4)[3]}" in clips[0][0].note
    with pytest.raises(UserError, match=r"no failure \(fell, off"):
        record_gifs(
            study,
            LoadedRuns(folder),
            arms=["default"],
            choice=EpisodeChoice(pick="failure"),
            log=messages.append,
        )


def test_failure_needs_failure_outcomes(
    study: Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_gif, "_failure_outcomes", lambda study: [])
    with pytest.raises(UserError, match="does not define which outcomes are failures; use"):
        record_gifs(
            study, LoadedRuns(folder), choice=EpisodeChoice(pick="failure"), log=lambda text: None
        )


def test_episode_is_chosen_by_its_seed(
    study: Study, folder: StudyFolder, clips: list[list[gif.Clip]]
) -> None:
    third = held_out_seeds(3)[2]
    messages: list[str] = []
    paths = record_gifs(
        study,
        LoadedRuns(folder),
        choice=EpisodeChoice(seed=1, episode_seed=third),
        log=messages.append,
    )
    assert names(paths)[-1] == f"side-by-side-seed-1-episode-{third}.gif"
    assert all(clip.note == f"seed 1  ·  episode {third}" for clip in clips[-1])
    assert not any("on the machine that trained it" in text for text in messages)


def test_invalid_choices_are_refused_before_replay(
    study: Study, folder: StudyFolder, clips: list[list[gif.Clip]]
) -> None:
    known = ", ".join(str(seed) for seed in held_out_seeds(3))
    with pytest.raises(UserError, match=rf"one of the 8 in .*evaluations.csv: {known}, …"):
        record_gifs(study, LoadedRuns(folder), choice=EpisodeChoice(episode_seed=5), log=print)
    with pytest.raises(UserError, match="no run of tiny with seed 9 is finished"):
        record_gifs(study, LoadedRuns(folder), choice=EpisodeChoice(seed=9, pick="best"), log=print)
    with pytest.raises(UserError, match="give only one of them"):
        EpisodeChoice(episode_seed=5, pick="best")
    assert not clips


def moving(count: int, hold: int) -> list[npt.NDArray[np.uint8]]:
    """Return frames of odd size in which a block moves and then rests."""
    frames = []
    for step in [*range(count), *[count - 1] * hold]:
        frame = np.full((61, 83, 3), 255, np.uint8)
        frame[20:40, step : step + 20] = (213, 94, 0)
        frames.append(frame)
    return frames


def test_webp_keeps_frames_and_durations(tmp_path: Path) -> None:
    frames = moving(10, hold=5)
    video.write_video(tmp_path / "a.webp", frames, delay_ms=40)
    with Image.open(tmp_path / "a.webp") as image:
        assert (image.format, image.info["loop"], getattr(image, "n_frames", 1)) == ("WEBP", 0, 10)
        shown, ms = [], []
        for index in range(10):
            image.seek(index)
            shown.append(np.asarray(image.convert("RGB")))
            ms.append(image.info["duration"])
    assert np.array_equal(np.stack(shown), np.stack(frames[:10]))
    assert ms == [40] * 9 + [240]


def test_mp4_keeps_frames_and_durations(tmp_path: Path) -> None:
    frames = moving(10, hold=5)
    video.write_video(tmp_path / "a.mp4", frames, delay_ms=40)
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
def test_encoding_is_deterministic(kind: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for path in paths:
        video.write_video(path, moving(6, hold=2), delay_ms=40)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_missing_extra_is_named(
    study: Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "shaperun\[mp4\]"'):
        record_gifs(study, LoadedRuns(folder), choice=EpisodeChoice(), kind="mp4", log=print)
    video.ensure_supported("gif")
    video.ensure_supported("webp")


def test_command_accepts_pick_and_format(trained: Path, tmp_path: Path, shaperun: Shaperun) -> None:
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
