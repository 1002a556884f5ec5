"""What `record-gif` makes: one GIF an arm, and one of all arms side by side on the same episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from shaperun import canvas, gifs, results
from shaperun.batch import refuse_changed
from shaperun.errors import UserError
from shaperun.learner import load_actor
from shaperun.plan import Run, planned_runs
from shaperun.replay import replay
from shaperun.store import StudyFolder
from shaperun.study import Study

SIDE_BY_SIDE = "side-by-side"


def record_gifs(
    study: Study,
    folder: StudyFolder,
    *,
    arms: Sequence[str] = (),
    seed: int | None = None,
    episode: int = 0,
    tell: Callable[[str], None],
) -> list[Path]:
    """Play a held-out episode with one policy an arm and write the GIFs.

    Args:
        study: the study.
        folder: its folder.
        arms: which arms; all that have a finished run if empty.
        seed: the run to show; each arm's median run by final environment return if None.
        episode: which of the held-out episodes, from 0.
        tell: is told of every arm as soon as it was played, in a sentence.

    Raises:
        UserError: there is no finished run to show, or no such episode.
    """
    if not 0 <= episode < study.evaluation.final_episodes:
        last = study.evaluation.final_episodes - 1
        raise UserError(f"there is no episode {episode}: the held-out ones are 0 to {last}")
    runs = planned_runs(study, study.arms, arms)
    refuse_changed(folder, runs)
    final = _final(folder, runs)
    clips, written = [], []
    for arm in dict.fromkeys(run.arm for run in runs):
        of_arm = [run for run in runs if run.arm == arm]
        run = _chosen(final.filter(arm=arm), of_arm, seed)
        if run is None:
            continue
        clip = _clip(study, folder, run, episode)
        recorded = final.filter(arm=arm, seed=run.seed, episode=episode)["return"].item()
        tell(_sentence(clip, run.seed, recorded))
        clips.append(clip)
        written.append(_write(folder.gifs / f"{arm}.gif", [clip]))
    if not clips:
        which = "" if seed is None else f" with seed {seed}"
        raise UserError(f"no run of {study.study}{which} is finished yet; train it first")
    if len(clips) > 1:
        written.append(_write(folder.gifs / f"{SIDE_BY_SIDE}.gif", clips))
    return written


def _final(folder: StudyFolder, runs: Sequence[Run]) -> pl.DataFrame:
    episodes = results.evaluation_episodes(folder, runs)
    if episodes.is_empty():
        raise UserError(f"nothing has been trained into {folder.path} yet")
    return results.final_episodes(episodes)


def _chosen(final: pl.DataFrame, runs: Sequence[Run], seed: int | None) -> Run | None:
    """The run with this seed, or the median one: neither the luckiest nor the unluckiest."""
    by_return = final.group_by("seed").agg(pl.col("return").mean()).sort("return", "seed")
    seeds = by_return["seed"].to_list()
    if seed is None and seeds:
        seed = seeds[(len(seeds) - 1) // 2]
    return next((run for run in runs if run.seed == seed and seed in seeds), None)


def _clip(study: Study, folder: StudyFolder, run: Run, episode: int) -> gifs.Clip:
    run_folder = folder.run(run.arm, run.seed)
    try:
        act = load_actor(run.config, run_folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{run_folder.policy} is not a policy of this run: {error}") from None
    try:
        played = replay(study.environment, act, episode, gifs.shrink)
    except Exception as error:  # whatever the environment's own code raises where it cannot draw
        raise UserError(f"{study.environment.id} cannot be drawn: {error}") from None
    return gifs.Clip(
        arm=run.arm,
        colour=canvas.colours(list(study.arms))[run.arm],
        frames=played.frames,
        returns=played.returns,
        outcome=played.outcome.replace("_", " "),
        success=study.environment.describe().outcomes[played.outcome],
        fps=played.fps,
    )


def _sentence(clip: gifs.Clip, seed: int, recorded_return: float) -> str:
    shown = clip.returns[-1]
    text = f"{clip.arm} (seed {seed}): {clip.outcome}, environment return {shown:,.1f}"
    if abs(shown - recorded_return) < 1e-6:
        return text
    return f"{text}; trained elsewhere, where this episode came to {recorded_return:,.1f}"


def _write(path: Path, clips: Sequence[gifs.Clip]) -> Path:
    frames, delay_ms = gifs.compose(clips)
    gifs.write_gif(path, frames, delay_ms=delay_ms)
    return path
