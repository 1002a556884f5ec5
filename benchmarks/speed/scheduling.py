"""What it costs to hand out 1,000 short runs to two workers, and to ask how 10,000 runs are."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import SHAPERUN, Row, cores, on_cores, run, seconds, tell
from shaperun.runs import driver as batch
from shaperun.runs import process_pool
from shaperun.runs.plan import planned_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study, parse_study

WORKERS = 2
ARMS = 4
TINY, SHORT = 1_000, 20_000  # steps
PARTS = {"episodes.csv": 60_000, "evaluations.csv": 9_000, "updates.csv": 4_000}
POLICY = 150_000


def rows(*, quick: bool) -> list[Row]:
    """Both figures; the first is skipped where there is only one core."""
    count = 40 if quick else 1_000
    handed = [row for engine in ("lockstep", "sb3") for row in _scheduling(engine, count)]
    return [*handed, *_status(10 * count)]


def _study(runs: int, steps: int, engine: str) -> Study:
    shaped = {f"p{n}": {"mode": "potential", "weights": {"upright": n}} for n in range(1, ARMS)}
    return parse_study(
        {
            "study": "short",
            "environment": {"id": "CartPole-v1"},
            "training": {
                "engine": engine,
                "total_timesteps": steps,
                "n_envs": 8,
                "hyperparameters": {"n_steps": 125, "batch_size": 250, "n_epochs": 10},
            },
            "seeds": runs // ARMS,
            "evaluation": {"every": 10_000, "episodes": 1, "final_episodes": steps // 1_000},
            "arms": {"default": {}, **shaped},
        }
    )


def clocked(job: process_pool.Job, path: str) -> None:
    """Do a job, and write down when it began and ended, by the clock of all processes."""
    began = time.monotonic()
    job()
    Path(path).write_text(json.dumps([began, time.monotonic()]))


def _scheduling(engine: str, count: int) -> list[Row]:
    """What handing out a tiny run costs with so many waiting, by the length of a short one."""
    if cores() < WORKERS:
        tell("  skipped: there is only one core here")
        return []
    with on_cores(WORKERS):
        _, cost = _train(_study(count, TINY, engine))
        run, _ = _train(_study(8 * ARMS, SHORT, engine))
    share = 100 * cost / run
    waiting = f"scheduling, {engine}, {count:,} runs"
    return [
        Row(f"{waiting}: of one of {SHORT:,} steps", [share], "{:.2f}", "%", at_most=1.0),
        Row(f"{waiting}: a run", [1000 * cost], "{:.1f}", "ms"),
        Row(f"a run of {SHORT:,} steps, {engine}", [run], "{:.1f}", "s"),
    ]


def _train(study: Study) -> tuple[float, float]:
    """Seconds within a run, and a run's seconds of the workers between runs and of the driver."""
    with tempfile.TemporaryDirectory() as name:
        clocks = Path(name, "clocks")
        clocks.mkdir()

        def workers(jobs: Iterable[process_pool.Job]) -> Iterator[process_pool.Finished | None]:
            own = {
                process_pool.Job(f"{__name__}:clocked", (job, str(clocks / str(n)))): job
                for n, job in enumerate(jobs)
            }
            for end in process_pool.run_in_processes(own, WORKERS, preload=batch.TRAINING):
                yield end and process_pool.Finished(own[end.job], end.error)

        runs = planned_runs(study, study.arms)
        driver = time.process_time()
        folder = StudyFolder(Path(name, "results"))
        *_, last = batch.drive(folder, runs, workers, workers=WORKERS)
        driver = time.process_time() - driver
        assert all(state.state == "done" for state in last)  # noqa: S101 (else it means nothing)
        times = sorted(json.loads(path.read_text()) for path in clocks.iterdir())
    within = sum(end - began for began, end in times)
    # Until the first worker has nothing left to do.
    end_of_work = sorted(end for _, end in times)[-WORKERS]
    late = sum(max(0.0, end - end_of_work) for _, end in times)
    between = WORKERS * (end_of_work - times[0][0]) - (within - late)
    return within / len(runs), (between + driver) / len(runs)


def _status(count: int) -> list[Row]:
    """Wall time of `shaperun status`, a whole process, of runs that nobody trained."""
    with tempfile.TemporaryDirectory() as name, on_cores(1):
        tell(f"  making {count:,} runs")
        study = _study(count, SHORT, "sb3")
        folder = StudyFolder(Path(name, study.study))
        folder.write_study(study.model_dump(mode="json"))
        for one in planned_runs(study, study.arms):
            made = folder.run(one.arm, one.seed)
            made.path.mkdir(parents=True)
            made.start(_record(one.config))
            for file, size in (PARTS | {made.policy.name: POLICY}).items():
                (made.path / file).write_bytes(bytes(size))
            made.write_progress({"timesteps": SHORT, "seconds": 9.5, "evaluated_return": 500.0})
            made.finish()
        took = [
            seconds(lambda: run([SHAPERUN, "status", study.study, "--results", name]))
            for _ in range(2 if count < 10_000 else 5)
        ]
    return [Row(f"status, {count:,} runs", took, "{:.1f}", "s", at_most=2.0)]


def _record(config: Any) -> dict[str, Any]:
    return {"identity": config.identity, "config": config.model_dump(mode="json")}
