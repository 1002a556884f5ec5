"""What `record-gif` makes: a GIF an arm and one of all arms side by side; or MP4, or WebP.

Nobody chooses an episode by its look. Without a wish, every arm shows its median run on the first
held-out episode, the same for all. A pick chooses among all recorded final episodes of an arm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from shaperun.analysis import results
from shaperun.common.errors import UserError
from shaperun.report import gif, video
from shaperun.report.plots import style
from shaperun.runs.plan import Run, planned_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study
from shaperun.training.replay import replay
from shaperun.training.sb3_model import load_policy

SIDE_BY_SIDE = "side-by-side"

Pick = Literal["best", "median", "worst", "failure"]
Row = dict[str, Any]  # a recorded episode, in the columns of results.evaluation_episodes


@dataclass(frozen=True)
class EpisodeChoice:
    """Which runs and episodes to show; what is None is chosen by rule."""

    seed: int | None = None  # of the run
    episode_seed: int | None = None
    pick: Pick | None = None

    def __post_init__(self) -> None:
        if self.pick and self.episode_seed is not None:
            raise UserError(
                "--pick chooses the episodes and --episode-seed names one; give only one of them"
            )

    def file_name(self, of: str) -> str:
        """A name that tells what was wished for, without its ending."""
        seed = [] if self.seed is None else [f"seed-{self.seed}"]
        episode = [] if self.episode_seed is None else [f"episode-{self.episode_seed}"]
        return "-".join([of, *seed, *episode, *([self.pick] if self.pick else [])])


@dataclass(frozen=True)
class _Chosen:
    episode: Row
    why: str  # by which rule; empty where there was nothing to choose from


def record_gifs(
    study: Study,
    folder: StudyFolder,
    *,
    arms: Sequence[str] = (),
    choice: EpisodeChoice,
    kind: video.Format = "gif",
    log: Callable[[str], None],
) -> list[Path]:
    """Play a recorded episode of every arm once more and write what it looks like.

    Args:
        study: the study.
        folder: its folder.
        arms: which arms; all that have a finished run if empty.
        wish: which runs and episodes.
        kind: the format of the files.
        tell: is told of every arm as soon as it was played, in a sentence.

    Raises:
        UserError: there is no finished run to show, no such episode, or no way to write the format.
    """
    video.require(kind)
    runs = planned_runs(study, study.arms, arms)
    ensure_unchanged(folder, runs)
    final = _final(study, folder, runs, choice)
    clips, written = [], []
    for arm in dict.fromkeys(run.arm for run in runs):
        recorded = final.filter(arm=arm)
        if recorded.is_empty():
            continue
        chosen = _choose(recorded, choice, _failing(study))
        if chosen is None:
            log(f"{arm}: none of its {len(recorded)} final episodes is a failure; left out")
            continue
        run = next(run for run in runs if (run.arm, run.seed) == (arm, chosen.episode["seed"]))
        clip = _clip(study, folder, run, chosen)
        log(_sentence(clip, chosen))
        clips.append(clip)
        written.append(_write(folder.gifs / f"{choice.file_name(arm)}.{kind}", [clip]))
    if len(clips) > 1:
        written.append(_write(folder.gifs / f"{choice.file_name(SIDE_BY_SIDE)}.{kind}", clips))
    return written


def _final(
    study: Study, folder: StudyFolder, runs: Sequence[Run], wish: EpisodeChoice
) -> pl.DataFrame:
    """The recorded final episodes to choose from, in an order that never changes."""
    episodes = results.evaluation_episodes(folder, runs)
    if episodes.is_empty():
        raise UserError(f"nothing has been trained into {folder.path} yet")
    final = results.final_episodes(episodes).sort("return", "seed", "episode")
    if wish.seed is not None:
        final = final.filter(seed=wish.seed)
    if final.is_empty():
        which = "" if wish.seed is None else f" with seed {wish.seed}"
        raise UserError(f"no run of {study.study}{which} is finished yet; train it first")
    _check_episode(final, folder, wish)
    if wish.pick == "failure":
        _check_failures(final, study)
    return final


def _check_episode(final: pl.DataFrame, folder: StudyFolder, wish: EpisodeChoice) -> None:
    known = final.sort("episode")["episode_seed"].unique(maintain_order=True)
    if wish.episode_seed is not None and wish.episode_seed not in known:
        some = ", ".join(str(seed) for seed in known[:3])
        runs = folder.run("<arm>", 0).evaluations
        raise UserError(
            f"no final episode has the seed {wish.episode_seed}; the {len(known)} that were "
            f"played are in the column seed of {runs}: {some}, …"
        )


def _check_failures(final: pl.DataFrame, study: Study) -> None:
    failing = _failing(study)
    if not failing:
        raise UserError(
            f"{study.environment.id} does not say which outcomes are failures; use --pick worst"
        )
    if not final["outcome"].is_in(failing).any():
        names = ", ".join(failing)
        raise UserError(f"none of the {len(final)} final episodes is a failure ({names})")


def _failing(study: Study) -> list[str]:
    outcomes = study.environment.describe().outcomes
    return [name for name, good in outcomes.items() if good is False]


def _choose(recorded: pl.DataFrame, wish: EpisodeChoice, failing: list[str]) -> _Chosen | None:
    """The episode to show of an arm, given its recorded ones from the worst to the best."""
    if wish.pick is None:
        return _of_median_run(recorded, wish)
    rank, kind = wish.pick, "episode"
    if wish.pick == "failure":
        rank, kind = "median", "failure"
        recorded = recorded.filter(pl.col("outcome").is_in(failing))
    if recorded.is_empty():
        return None
    place = {"best": -1, "worst": 0, "median": (len(recorded) - 1) // 2}[rank]
    count = len(recorded)
    why = f"{rank} of {count} {kind}s" if count > 1 else f"its only {kind}"
    return _Chosen(recorded.row(place, named=True), why)


def _of_median_run(recorded: pl.DataFrame, wish: EpisodeChoice) -> _Chosen:
    """The named episode, or the first, of the median run: neither the luckiest nor the opposite."""
    by_return = recorded.group_by("seed").agg(pl.col("return").mean()).sort("return", "seed")
    seed = by_return["seed"][(len(by_return) - 1) // 2]
    own = recorded.filter(seed=seed).sort("episode")
    if wish.episode_seed is not None:
        own = own.filter(episode_seed=wish.episode_seed)
    why = f"median of {len(by_return)} runs" if len(by_return) > 1 else ""
    return _Chosen(own.row(0, named=True), why)


def _clip(study: Study, folder: StudyFolder, run: Run, chosen: _Chosen) -> gif.Clip:
    run_folder, episode = folder.run(run.arm, run.seed), chosen.episode["episode_seed"]
    act = load_policy(run.config, run_folder)
    try:
        played = replay(run.config, act, episode, gif.shrink)
    except Exception as error:  # whatever the environment's own code raises where it cannot draw
        raise UserError(f"{study.environment.id} cannot be drawn: {error}") from None
    which = f"run {run.seed}  ·  episode {episode}"
    return gif.Clip(
        arm=run.arm,
        colour=style.colours(list(study.arms))[run.arm],
        frames=played.frames,
        returns=played.returns,
        outcome=played.outcome.replace("_", " "),
        success=study.environment.describe().outcomes[played.outcome],
        fps=played.fps,
        note=f"{chosen.why}  ·  {which}" if chosen.why else which,
        contributions=played.contributions,
    )


def _sentence(clip: gif.Clip, chosen: _Chosen) -> str:
    shown, recorded = clip.returns[-1], chosen.episode["return"]
    which = f"run {chosen.episode['seed']}, episode {chosen.episode['episode_seed']}"
    text = f"{clip.arm} ({which}): {clip.outcome}, environment return {shown:,.1f}"
    if abs(shown - recorded) < 1e-6:
        return text
    return f"{text}; trained elsewhere, where this episode came to {recorded:,.1f}"


def _write(path: Path, clips: Sequence[gif.Clip]) -> Path:
    frames, delay_ms = gif.compose(clips)
    video.write(path, frames, delay_ms=delay_ms)
    return path
