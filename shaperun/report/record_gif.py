"""Record policies as one GIF, MP4 or WebP per arm, and one of all arms side by side.

Episodes are chosen by a rule. By default every arm shows its median run on the first held-out
episode, the same for all; `pick` chooses among all recorded final episodes of an arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from shaperun.analysis import results
from shaperun.analysis.results import LoadedRuns
from shaperun.check.filmstrip import check_rendering
from shaperun.common.errors import UserError
from shaperun.common.text import format_number, pluralize
from shaperun.envs.make import explain_rendering_error
from shaperun.report import gif, video
from shaperun.report.plots import style
from shaperun.runs.code_files import changed_code
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import Study
from shaperun.training.replay import replay_episode
from shaperun.training.sb3_model import load_policy

SIDE_BY_SIDE = "side-by-side"

Pick = Literal["best", "median", "worst", "failure"]
Row = dict[str, Any]  # a recorded episode, in the columns of LoadedRuns.episodes


@dataclass(frozen=True)
class EpisodeChoice:
    """The runs and episodes to show; None leaves the choice to the default rule."""

    seed: int | None = None  # of the run
    episode_seed: int | None = None
    pick: Pick | None = None

    def __post_init__(self) -> None:
        if self.pick and self.episode_seed is not None:
            raise UserError(
                "--pick chooses the episodes and --episode-seed names one; give only one of them"
            )

    def file_name(self, prefix: str) -> str:
        """Return a file name that states the choice, without suffix."""
        seed = [] if self.seed is None else [f"seed-{self.seed}"]
        episode = [] if self.episode_seed is None else [f"episode-{self.episode_seed}"]
        return "-".join([prefix, *seed, *episode, *([self.pick] if self.pick else [])])


@dataclass(frozen=True)
class _Choice:
    episode: Row
    reason: str  # empty if there was nothing to choose from


def record_gifs(
    study: Study,
    loaded: LoadedRuns,
    *,
    arms: Sequence[str] = (),
    choice: EpisodeChoice,
    kind: video.Format = "gif",
    log: Callable[[str], None],
) -> list[Path]:
    """Replay a recorded episode of every arm, write it to the study's folder, return the paths.

    Raises:
        UserError: no finished run, unknown episode, missing package, or no rendering.
    """
    video.ensure_supported(kind)
    check_rendering(study.evaluated_environment)
    folder = loaded.folder
    runs = plan_runs(study, study.arms, arms)
    ensure_unchanged(folder, runs)
    final = _select_final(study, loaded, runs, choice)
    chosen_by_arm = dict(_choose_episodes(study, final, runs, choice, log))
    longest = max((chosen.episode["length"] for chosen in chosen_by_arm.values()), default=0)
    clips, written = [], []
    for arm, chosen in chosen_by_arm.items():
        run = next(run for run in runs if (run.arm, run.seed) == (arm, chosen.episode["seed"]))
        clip = _record_clip(study, folder.run(run.arm, run.seed), run, chosen, longest)
        log(_describe(clip, chosen, changed_code(folder.run(run.arm, run.seed), run.config)))
        clips.append(clip)
        written.append(_write(folder.gifs / f"{choice.file_name(arm)}.{kind}", [clip]))
    if len(clips) > 1:
        written.append(_write(folder.gifs / f"{choice.file_name(SIDE_BY_SIDE)}.{kind}", clips))
    return written


def _choose_episodes(
    study: Study,
    final: pl.DataFrame,
    runs: Sequence[Run],
    choice: EpisodeChoice,
    log: Callable[[str], None],
) -> Iterator[tuple[str, _Choice]]:
    for arm in dict.fromkeys(run.arm for run in runs):
        recorded = final.filter(arm=arm)
        if recorded.is_empty():
            continue
        chosen = _choose(recorded, choice, _failure_outcomes(study))
        if chosen is None:
            count = pluralize(len(recorded), "final episode")
            log(f"{arm}: no failure in {count}; left out")
        else:
            yield arm, chosen


def _select_final(
    study: Study, loaded: LoadedRuns, runs: Sequence[Run], choice: EpisodeChoice
) -> pl.DataFrame:
    """Return the recorded final episodes to choose from, sorted by return, seed and episode."""
    episodes = loaded.episodes(runs)
    if episodes.is_empty():
        raise UserError(f"no runs in {loaded.folder.path}; train the study first")
    final = results.final_episodes(episodes).sort("return", "seed", "episode")
    if choice.seed is not None:
        final = final.filter(seed=choice.seed)
    if final.is_empty():
        which = "" if choice.seed is None else f" with seed {choice.seed}"
        raise UserError(f"no run of {study.study}{which} is finished; train it first")
    _check_episode(final, loaded.folder.run("<arm>", 0).evaluations, choice)
    if choice.pick == "failure":
        _check_failures(final, study)
    return final


def _check_episode(final: pl.DataFrame, table: Path, choice: EpisodeChoice) -> None:
    known = final.sort("episode")["episode_seed"].unique(maintain_order=True)
    if choice.episode_seed is not None and choice.episode_seed not in known:
        some = ", ".join(str(seed) for seed in known[:3])
        raise UserError(
            f"no final episode has the seed {choice.episode_seed}; choose one of the {len(known)} "
            f"in the column seed of {table}: {some}, …"
        )


def _check_failures(final: pl.DataFrame, study: Study) -> None:
    failing = _failure_outcomes(study)
    if not failing:
        raise UserError(
            f"{study.environment.id} does not define which outcomes are failures; use --pick worst"
        )
    if not final["outcome"].is_in(failing).any():
        names = ", ".join(failing)
        count = pluralize(len(final), "final episode")
        raise UserError(f"no failure ({names}) in {count}; choose another --pick")


def _failure_outcomes(study: Study) -> list[str]:
    outcomes = study.evaluated_environment.describe().outcomes
    return [name for name, good in outcomes.items() if good is False]


def _choose(recorded: pl.DataFrame, choice: EpisodeChoice, failing: list[str]) -> _Choice | None:
    """Choose an episode of an arm from its recorded ones, sorted from worst to best."""
    if choice.pick is None:
        return _choose_median_run(recorded, choice)
    rank, kind = choice.pick, "episode"
    if choice.pick == "failure":
        rank, kind = "median", "failure"
        recorded = recorded.filter(pl.col("outcome").is_in(failing))
    if recorded.is_empty():
        return None
    index = {"best": -1, "worst": 0, "median": (len(recorded) - 1) // 2}[rank]
    count = len(recorded)
    name = _name_median(count) if rank == "median" else rank
    reason = f"{name} of {count} {kind}s" if count > 1 else f"its only {kind}"
    return _Choice(recorded.row(index, named=True), reason)


def _choose_median_run(recorded: pl.DataFrame, choice: EpisodeChoice) -> _Choice:
    """Choose the named or first episode of the run with the median return."""
    by_return = recorded.group_by("seed").agg(pl.col("return").mean()).sort("return", "seed")
    seed = by_return["seed"][(len(by_return) - 1) // 2]
    episodes = recorded.filter(seed=seed).sort("episode")
    if choice.episode_seed is not None:
        episodes = episodes.filter(episode_seed=choice.episode_seed)
    reason = f"{_name_median(len(by_return))} of {len(by_return)} runs"
    return _Choice(episodes.row(0, named=True), reason if len(by_return) > 1 else "")


def _name_median(count: int) -> str:
    """Return the name of the middle one of so many, which is the lower of two."""
    return "median" if count % 2 else "lower median"


def _record_clip(
    study: Study, folder: RunFolder, run: Run, chosen: _Choice, longest: int
) -> gif.Clip:
    act, episode = load_policy(run.config, folder), chosen.episode["episode_seed"]
    try:
        factor = chosen.episode.get("schedule")
        played = replay_episode(run.config, act, episode, gif.shrink, factor, longest=longest)
    except UserError:
        raise
    except Exception as error:  # the environment's code may raise anything
        why = explain_rendering_error(error)
        raise UserError(f"{study.environment.id} cannot be rendered: {why}") from error
    which = "  ·  ".join(filter(None, [chosen.reason, f"seed {run.seed}", f"episode {episode}"]))
    try:
        return gif.Clip(
            arm=run.arm,
            color=style.assign_colors(list(study.arms))[run.arm],
            frames=played.frames,
            returns=played.returns,
            outcome=played.outcome.replace("_", " "),
            success=study.evaluated_environment.describe().outcomes[played.outcome],
            fps=played.fps,
            speed=played.speed,
            note=f"{which}\n{study.evaluated_with}".strip(),
            contributions=played.contributions,
        )
    except ValueError as error:  # the environment's pictures or numbers cannot be drawn
        raise UserError(f"{study.environment.id} cannot be filmed: {error}") from None


def _describe(clip: gif.Clip, chosen: _Choice, changed: Sequence[str]) -> str:
    replayed, recorded = clip.returns[-1], chosen.episode["return"]
    which = f"seed {chosen.episode['seed']}, episode {chosen.episode['episode_seed']}"
    text = f"{clip.arm} ({which}): {clip.outcome}, environment return {format_number(replayed)}"
    version = f"with another version of {', '.join(changed)}" if changed else ""
    if abs(replayed - recorded) < 1e-6:
        return f"{text}; trained {version}" if changed else text
    return f"{text}; {format_number(recorded)} {version or 'on the machine that trained it'}"


def _write(path: Path, clips: Sequence[gif.Clip]) -> Path:
    frames, delay_ms = gif.compose(clips)
    video.write_video(path, frames, delay_ms=delay_ms)
    return path
