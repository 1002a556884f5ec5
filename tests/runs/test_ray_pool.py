"""Ray pool on a real local cluster of two nodes, one of which is killed during training."""

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

from benchmarks.doc_tables import ROOT
from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import driver as runs_driver
from shaperun.runs import ray_pool, status
from shaperun.runs.plan import plan_runs
from shaperun.runs.process_pool import Job, JobResult
from shaperun.runs.ray_pool import run_on_ray
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from tests.conftest import TINY, call_shaperun

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason='needs pip install "shaperun[ray]"'),
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]

LONG = TINY | {
    "study": "long",
    "training": {**TINY["training"], "total_timesteps": 8_000},  # type: ignore[dict-item]
    "evaluation": {"every": 2_000, "episodes": 2, "final_episodes": 4},
    "seeds": 1,
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder for Ray's sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Any]:
    """Start two nodes with one core each."""
    settings = {
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = importlib.import_module("ray.cluster_utils").Cluster(True, head_node_args=head)
        cluster.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        importlib.import_module("ray").shutdown()
        cluster.shutdown()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the helper jobs by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))


def errors(events: Iterator[JobResult | None]) -> dict[Job, str | None]:
    return {event.job: event.error for event in events if event}


def wait_until(condition: Callable[[], object], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.02)
    return value


def find_processes(folder: Path, name: str = "") -> list[int]:
    """Return the processes of the Ray cluster that has its files in a folder."""
    setting, processes = f"RAY_TMPDIR={folder}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            matches = setting in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().decode()
        except OSError:  # it has ended
            continue
        if matches and command.startswith(name):
            processes.append(int(entry.name))
    return processes


@pytest.mark.usefixtures("cluster")
def test_jobs_run_as_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = [Job("jobs:write", (str(tmp_path / name), name)) for name in "abc"]
    dying = [Job("jobs:die_repeatedly", (str(tmp_path / str(times)), times)) for times in (2, 3)]
    failing = Job("jobs:fail", ("x" * 30_000 + " on purpose",))
    here = Job("os:mkdir", ("here",))
    ended = errors(run_on_ray([failing, *dying, *written, here], 0))
    assert "x on purpose\n" in (ended.pop(failing) or "")
    assert (ended.pop(dying[1]) or "").endswith("\nthe process was killed, or died by itself")
    assert ended == dict.fromkeys([dying[0], *written, here])
    assert [(tmp_path / name).read_text() for name in ("2", "3")] == ["xxx", "xxx"]
    words = [(tmp_path / name).read_text().split() for name in "abc"]
    assert len({process for _, process, _ in words} | {str(os.getpid())}) == 4
    assert {threads for _, _, threads in words} == {"1"}
    assert (tmp_path / "here").is_dir()


@pytest.mark.usefixtures("cluster")
def test_closing_terminates_the_workers(tmp_path: Path) -> None:
    path, waiting = tmp_path / "pid", tmp_path / "waiting"
    jobs = [Job("jobs:wait_forever", (str(file),)) for file in (path, waiting)]
    events = run_on_ray(jobs, 1, tick=0.05)
    while not (path.exists() and path.read_text()):
        assert next(events) is None
    events.close()  # type: ignore[attr-defined]
    wait_until(lambda: not Path(f"/proc/{path.read_text()}").exists(), 5)
    assert not waiting.exists()


def test_runs_survive_the_loss_of_a_node(cluster: Any, tmp_path: Path) -> None:
    """Its run resumes on another node, and results equal those of local processes."""
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(LONG, sort_keys=False))
    done = call_shaperun("train", "long.yaml", "--results", "local", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Ray searches the working directory first and would import it; shaperun does not.
    (tmp_path / "stable_baselines3.py").write_text("raise ImportError('not the library')")
    module = "benchmarks.crashes.frequent_checkpoints"
    command = [sys.executable, "-P", "-m", module, "train", "long.yaml", "--executor", "ray"]
    runs = [RunFolder(tmp_path / f"results/long/runs/{arm}/0") for arm in ("default", "guided")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=-1, stderr=-1, text=True
    ) as driver:
        wait_until(lambda: all(path.exists() for run in runs for path in run.checkpoints))
        records = [run.config.read_bytes() for run in runs]
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        assert not any(run.is_done() for run in runs)
        output, messages = driver.communicate(timeout=120)
    cluster.add_node(num_cpus=1)
    assert driver.returncode == 0, messages
    assert not output
    assert "raylet" not in messages
    for run, record in zip(runs, records, strict=True):
        assert run.config.read_bytes() == record  # it resumed and did not restart
        assert outcome(run) == outcome(
            RunFolder(tmp_path / "local" / run.path.relative_to(tmp_path / "results"))
        )


def outcome(run: RunFolder) -> dict[str, bytes]:
    """Return all that must be equal: tables, and tensors of the policy and its optimizer."""
    files = (run.episodes, run.evaluations, run.updates, run.normalization)
    tables = {path.name: path.read_bytes() for path in files}
    tensors: dict[str, Any] = load_from_zip_file(run.policy)[1]
    weights = tensors["policy"]
    moments = tensors["policy.optimizer"]["state"]
    named = {**weights, **{f"{i} {k}": v for i, of in moments.items() for k, v in of.items()}}
    return tables | {name: tensor.numpy().tobytes() for name, tensor in named.items()}


@pytest.mark.usefixtures("cluster")
def test_a_lock_that_outlives_its_worker_is_waited_for(folder: Path, tmp_path: Path) -> None:
    """As on a machine that continues after the cluster has lost it."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"seeds": 1}, sort_keys=False))
    study = load_study(tmp_path / "tiny.yaml")
    results = StudyFolder(tmp_path / "results")
    runs = plan_runs(study, study.arms, ["default"])
    run = results.run("default", 0)
    lock = Lock(run.lock)
    states = runs_driver.execute_runs(results, runs, runs_driver.make_executor("ray", 0))
    for _ in states:
        if run.progress_version():
            break
    (worker,) = find_processes(folder, "ray::_run")
    os.kill(worker, signal.SIGKILL)
    wait_until(lock.acquire)
    for (state,) in states:
        if state.phase == status.ELSEWHERE:
            break
    written = run.episodes.read_bytes()
    time.sleep(0.5)
    assert run.episodes.read_bytes() == written
    lock.release()
    *_, (state,) = states
    assert state.state == "done"


ALONE = """
import signal
from shaperun.runs.process_pool import Job
from shaperun.runs.ray_pool import run_on_ray
handler = signal.getsignal(signal.SIGTERM)
(end,) = [event for event in run_on_ray([Job("os:mkdir", ("made",))], 3) if event]
assert end.error is None, end.error
assert signal.getsignal(signal.SIGTERM) is handler
"""


def test_without_a_cluster_a_local_one_is_started(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        # This is the address of a crashed cluster.
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        settings = {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-c", ALONE],
            cwd=tmp_path,
            env=environment | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / "made").is_dir()
        wait_until(lambda: not find_processes(Path(folder)), 10)


def test_an_unreachable_cluster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        ray_pool._find_address()


def test_missing_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_driver, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r'pip install "shaperun\[ray\]"'):
        runs_driver.make_executor("ray", 0)
