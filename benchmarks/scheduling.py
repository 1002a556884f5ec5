"""What it costs to hand out 1,000 short runs to two workers, and to ask how 10,000 runs are."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import SHAPERUN, Row, cores, on_cores, run, seconds, tell
from shaperun import batch, execute
from shaperun.plan import planned_runs
from shaperun.store import StudyFolder
from shaperun.study import Study, parse_study

WORKERS = 2
ARMS = 4
STEPS = 5_000
PARTS = {"episodes.csv": 60_000, "evaluations.csv": 9_000, "updates.csv": 4_000}
POLICY = 150_000


def rows(*, quick: bool) -> list[Row]:
    """Both figures; the first is skipped where there is only one core."""
    return [*_scheduling(40 if quick else 1_000), *_status(400 if quick else 10_000)]


def _study(runs: int) -> Study:
    shaped = {f"p{n}": {"mode": "potential", "weights": {"upright": n}} for n in range(1, ARMS)}
    return parse_study(
        {
            "study": "short",
            "environment": {"id": "CartPole-v1"},
            "training": {
                "total_timesteps": STEPS,
                "n_envs": 8,
                "hyperparameters": {"n_steps": 125, "batch_size": 250, "n_epochs": 4},
            },
            "seeds": runs // ARMS,
            "evaluation": {"every": STEPS, "episodes": 1, "final_episodes": 10},
            "arms": {"default": {}, **shaped},
        }
    )


def clocked(job: execute.Job, path: str) -> None:
    """Do a job, and write down when it began and ended, by the clock of all processes."""
    began = time.monotonic()
    job()
    Path(path).write_text(json.dumps([began, time.monotonic()]))


def _scheduling(count: int) -> list[Row]:
    """The workers' time that went by between runs, and the driver's own, by that within runs."""
    if cores() < WORKERS:
        tell("  skipped: there is only one core here")
        return []
    with tempfile.TemporaryDirectory() as name, on_cores(WORKERS):
        study, clocks = _study(count), Path(name, "clocks")
        clocks.mkdir()

        def workers(jobs: Iterable[execute.Job]) -> Iterator[execute.Finished | None]:
            own = {
                execute.Job(f"{__name__}:clocked", (job, str(clocks / str(n)))): job
                for n, job in enumerate(jobs)
            }
            for end in execute.processes(own, WORKERS, preload=batch.TRAINING):
                yield end and execute.Finished(own[end.job], end.error)

        driver = time.process_time()
        for states in batch.drive(
            StudyFolder(Path(name, "results")), planned_runs(study, study.arms), workers
        ):
            last = states
        driver = time.process_time() - driver
        assert all(state.state == "done" for state in last)  # noqa: S101 (else it means nothing)
        times = [json.loads(path.read_text()) for path in clocks.iterdir()]
    within = sum(end - began for began, end in times)
    whole = WORKERS * (max(end for _, end in times) - min(began for began, _ in times))
    between = whole - within
    return [
        Row(
            f"scheduling, {count:,} runs: of their time",
            [100 * (between + driver) / within],
            "{:.2f}",
            "%",
            at_most=1.0,
        ),
        Row("scheduling, a run", [1000 * (between + driver) / count], "{:.0f}", "ms"),
        Row("scheduling, a run itself", [within / count], "{:.2f}", "s"),
    ]


def _status(count: int) -> list[Row]:
    """Wall time of `shaperun status`, a whole process, of runs that nobody trained."""
    with tempfile.TemporaryDirectory() as name, on_cores(1):
        tell(f"  making {count:,} runs")
        study = _study(count)
        folder = StudyFolder(Path(name, study.study))
        folder.write_study(study.model_dump(mode="json"))
        for one in planned_runs(study, study.arms):
            made = folder.run(one.arm, one.seed)
            made.path.mkdir(parents=True)
            made.begin(_record(one.config))
            for file, size in (PARTS | {made.policy.name: POLICY}).items():
                (made.path / file).write_bytes(bytes(size))
            made.write_progress({"timesteps": STEPS, "seconds": 9.5, "evaluated_return": 500.0})
            made.finish()
        took = [
            seconds(lambda: run([SHAPERUN, "status", study.study, "--results", name]))
            for _ in range(2 if count < 10_000 else 5)
        ]
    return [Row(f"status, {count:,} runs", took, "{:.1f}", "s", at_most=2.0)]


def _record(config: Any) -> dict[str, Any]:
    return {"identity": config.identity, "config": config.model_dump(mode="json")}
