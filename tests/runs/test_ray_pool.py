"""A real cluster of two Ray nodes on this machine; one of them is killed while it trains."""

from __future__ import annotations

import importlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from stable_baselines3.common.save_util import load_from_zip_file

from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import driver as batch
from shaperun.runs import ray_pool, status
from shaperun.runs.plan import planned_runs
from shaperun.runs.process_pool import Finished, Job
from shaperun.runs.ray_pool import run_on_ray
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from tests.conftest import TINY, call_shaperun

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason='needs pip install "shaperun[ray]"'),
    pytest.mark.skipif(sys.platform != "linux", reason="Ray is tried on Linux, with its /proc"),
]

LONG = TINY | {
    "study": "long",
    "training": {**TINY["training"], "total_timesteps": 8_000},  # type: ignore[dict-item]
    "evaluation": {"every": 2_000, "episodes": 2, "final_episodes": 4},
    "seeds": 1,
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where Ray keeps its sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Any]:
    """Two nodes of one processor each, which keep a checkpoint of runs after every rollout."""
    settings = {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "SHAPERUN_KEEP_SECONDS": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        head = {"num_cpus": 1, "include_dashboard": False}
        made = importlib.import_module("ray.cluster_utils").Cluster(True, head_node_args=head)
        made.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        importlib.import_module("ray").shutdown()
        made.shutdown()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import the jobs of this folder by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))


def errors(events: Iterator[Finished | None]) -> dict[Job, str | None]:
    return {event.job: event.error for event in events if event}


def until(condition: Callable[[], object], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
    return found


def processes_of(folder: Path, name: str = "") -> list[int]:
    """The living processes of the Ray that keeps its files in a folder."""
    setting, found = f"RAY_TMPDIR={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = setting in (entry / "environ").read_bytes().split(b"\0")
            called = (entry / "cmdline").read_bytes().decode()
        except OSError:  # it has just ended
            continue
        if ours and called.startswith(name):
            found.append(int(entry.name))
    return found


@pytest.mark.usefixtures("cluster")
def test_jobs_are_run_as_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = [Job("jobs:write", (str(tmp_path / name), name)) for name in "abc"]
    dying = [Job("jobs:die_at_first", (str(tmp_path / str(times)), times)) for times in (2, 3)]
    failing = Job("jobs:fail", ("x" * 30_000 + " on purpose",))
    here = Job("os:mkdir", ("here",))
    ended = errors(run_on_ray([failing, *dying, *written, here], 0))
    assert (ended.pop(failing) or "").endswith("x on purpose\n")
    assert (ended.pop(dying[1]) or "").endswith("\nthe process was killed, or died by itself")
    assert ended == dict.fromkeys([dying[0], *written, here])
    assert [(tmp_path / name).read_text() for name in ("2", "3")] == ["xxx", "xxx"]
    words = [(tmp_path / name).read_text().split() for name in "abc"]
    assert len({process for _, process, _ in words} | {str(os.getpid())}) == 4
    assert {threads for _, _, threads in words} == {"1"}
    assert (tmp_path / "here").is_dir()


@pytest.mark.usefixtures("cluster")
def test_closing_ends_the_workers(tmp_path: Path) -> None:
    path, waiting = tmp_path / "pid", tmp_path / "waiting"
    jobs = [Job("jobs:wait_for_ever", (str(place),)) for place in (path, waiting)]
    events = run_on_ray(jobs, 1, tick=0.05)
    while not (path.exists() and path.read_text()):
        assert next(events) is None
    events.close()  # type: ignore[attr-defined]
    until(lambda: not Path(f"/proc/{path.read_text()}").exists(), 5)
    assert not waiting.exists()


def test_a_node_that_is_lost(cluster: Any, tmp_path: Path) -> None:
    """Its run goes on elsewhere, and every run ends as in the processes of one machine."""
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(LONG, sort_keys=False))
    done = call_shaperun("train", "long.yaml", "--results", "local", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Ray would import it, for it looks into the working directory first; we do not.
    (tmp_path / "stable_baselines3.py").write_text("raise ImportError('not the library')")
    command = [sys.executable, "-P", "-m", "shaperun", "train", "long.yaml", "--executor", "ray"]
    runs = [RunFolder(tmp_path / f"results/long/runs/{arm}/0") for arm in ("default", "guided")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as driver:
        until(lambda: all(path.exists() for run in runs for path in run.checkpoints))
        begun = [run.config.read_bytes() for run in runs]
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        assert not any(run.is_done() for run in runs)
        output, told = driver.communicate(timeout=120)
    cluster.add_node(num_cpus=1)
    assert driver.returncode == 0, told
    assert not output
    assert "raylet" not in told
    for run, beginning in zip(runs, begun, strict=True):
        assert run.config.read_bytes() == beginning  # it went on, and did not begin anew
        assert outcome(run) == outcome(
            RunFolder(tmp_path / "local" / run.path.relative_to(tmp_path / "results"))
        )


def outcome(run: RunFolder) -> dict[str, bytes]:
    """All that must be the same: the logs, and every tensor of the policy and its optimiser."""
    made = (run.episodes, run.evaluations, run.updates, run.normalization)
    found = {path.name: path.read_bytes() for path in made}
    tensors: dict[str, Any] = load_from_zip_file(run.policy)[1]
    weights = tensors["policy"]
    moments = tensors["policy.optimizer"]["state"]
    named = {**weights, **{f"{i} {k}": v for i, of in moments.items() for k, v in of.items()}}
    return found | {name: tensor.numpy().tobytes() for name, tensor in named.items()}


@pytest.mark.usefixtures("cluster")
def test_a_lease_that_outlives_its_worker_is_waited_for(folder: Path, tmp_path: Path) -> None:
    """As that of a machine which is lost to the cluster and goes on: never two write one run."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"seeds": 1}, sort_keys=False))
    study = load_study(tmp_path / "tiny.yaml")
    results = StudyFolder(tmp_path / "results")
    runs = planned_runs(study, study.arms, ["default"])
    run = results.run("default", 0)
    lease = Lock(run.lock)
    states = batch.drive(results, runs, batch.executor("ray", 0))
    for _ in states:
        if run.progressed_since(0.0):
            break
    (worker,) = processes_of(folder, "ray::_work")
    os.kill(worker, signal.SIGKILL)
    until(lease.acquire)
    for (state,) in states:
        if state.phase == status.ELSEWHERE:
            break
    written = run.episodes.read_bytes()
    time.sleep(0.5)
    assert run.episodes.read_bytes() == written
    lease.release()
    *_, (state,) = states
    assert state.state == "done"


ALONE = """
import signal
from shaperun.runs.process_pool import Job
from shaperun.runs.ray_pool import run_on_ray
polite = signal.getsignal(signal.SIGTERM)
(end,) = [event for event in run_on_ray([Job("os:mkdir", ("made",))], 3) if event]
assert end.error is None, end.error
assert signal.getsignal(signal.SIGTERM) is polite
"""


def test_without_a_cluster_one_is_started_for_a_while(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        # The cluster of which this speaks has crashed.
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        settings = {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-c", ALONE],
            cwd=tmp_path,
            env=kept | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / "made").is_dir()
        until(lambda: not processes_of(Path(folder)), 10)


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        ray_pool._address()


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r'pip install "shaperun\[ray\]"'):
        batch.executor("ray", 0)
