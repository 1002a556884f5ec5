"""Hostile files in a results folder, a study or answers, and the commands that meet them.

Whoever forges a file of a run forges its hash too, so that the run counts as finished.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import stat
import sys
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import yaml

from benchmarks.crashes.fork_server import ForkServer
from benchmarks.doc_tables import ROOT
from shaperun.cli.main import main
from shaperun.runs.run_folder import MAX_FILE_BYTES, RunFolder
from shaperun.study.models import parse_study

STUDY = """
study: tiny
environment: {id: CartPole-v1}
training:
  total_timesteps: 1000
  n_envs: 4
  normalize: {observations: true}
  hyperparameters: {n_steps: 50, batch_size: 50, n_epochs: 2}
seeds: 1
evaluation: {every: 500, episodes: 3, final_episodes: 5}
arms:
  default: {}
  guided: {mode: potential, weights: {upright: 1, centred: 1}}
"""
ANSWERS_OF_ANOTHER = "critic-or-not-cartpole-by-environment-return"
RUN = "results/tiny/runs/guided/0"
GIGABYTE = 10**9
MAX_WALL_SECONDS = 300.0  # after which a command counts as hanging
MAX_SECONDS = 20.0  # of the processor, beyond those of the command without hostile files
MAX_MEMORY = 500.0  # MB, beyond those of the command without hostile files
MAX_ADDRESSES = 16 * 10**9  # so that a fault does not take all of the machine
FAULTS = ("hangs", "memory", "bugs", "files outside changed")

SENTENCE = (
    f"Faults are {MAX_SECONDS:.0f} s of the processor or {MAX_MEMORY:.0f} MB more than without a "
    "forged file."
)

Forge = Callable[[Path], None]


@dataclass(frozen=True)
class Ending:
    """How a command ended: its status messages, seconds of the processor, and MB at its peak."""

    status: int
    messages: str
    seconds: float
    megabytes: float


COMMANDS = {
    "status": ("status", "tiny.yaml"),
    "compare": ("compare", "tiny.yaml"),
    "report": ("report", "tiny.yaml", "--static"),
    "record-gif": ("record-gif", "tiny.yaml"),
    "check": ("check", "tiny.yaml"),
    "train": ("train", "tiny.yaml", "--executor", "inline", "--quiet"),
    "fit": ("fit", "answers.json", "--into", "tiny.yaml", "--force"),
}
IMPORTS = (
    *("report.page", "report.data", "report.files", "report.record_gif", "search.progress"),
    *("analysis.comparison", "check.check", "preferences.fit", "training.train"),
)
READERS = ("status", "compare", "train")
READERS_OF = {
    "evaluations.csv": ("status", "compare", "report", "record-gif", "check", "train"),
    "updates.csv": ("status", "report", "train"),
    "policy.zip": ("status", "record-gif", "report", "train"),
    "normalization.json": ("record-gif", "train"),
}
FILES = (
    *("run.json", "DONE.json", "progress.json", "episodes.csv", "evaluations.csv", "updates.csv"),
    *("policy.zip", "normalization.json", "error.txt", "log.txt", "checkpoint-1.bin", ".lease"),
)


def run_command(folder: Path, *arguments: str) -> Ending:
    """Run a command of shaperun to its end, or for `MAX_WALL_SECONDS`, in a forked process."""
    output = folder / "messages"
    process = os.fork()
    if not process:
        _become_command(folder, arguments, output)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(process, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, MAX_WALL_SECONDS)
    try:
        _, status, usage = os.wait4(process, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    messages = output.read_text(encoding="utf-8", errors="replace")
    seconds, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6
    return Ending(os.waitstatus_to_exitcode(status), messages, seconds, megabytes)


def _become_command(folder: Path, arguments: tuple[str, ...], output: Path) -> NoReturn:
    os.chdir(folder)
    with output.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, MAX_ADDRESSES))
    sys.argv[:] = ["shaperun", *arguments]
    status: object = 1
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def import_commands() -> None:
    """Import what the commands import, so that each need not."""
    for name in IMPORTS:
        importlib.import_module(f"shaperun.{name}")


# --- the files


def link_to_zeros(path: Path) -> None:
    """Make a symbolic link to a device that never ends."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def make_pipe(path: Path) -> None:
    """Make a pipe without a writer."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def make_device(path: Path) -> None:
    """Make a device that never ends."""
    path.unlink(missing_ok=True)
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


def link_to_outside(path: Path) -> None:
    """Make a hard link to a file of the user, with the content that the run's file has."""
    outside = path.parents[6] / "outside" / path.name
    outside.parent.mkdir(exist_ok=True)
    outside.write_bytes(path.read_bytes() if path.exists() else b"mine")
    path.unlink(missing_ok=True)
    path.hardlink_to(outside)


def fill(size: int, start: bytes = b"", *, keep: bool = False) -> Forge:
    """Return a forgery of this size that takes no room: zeros after a beginning."""

    def forge(path: Path) -> None:
        if not keep:
            path.write_bytes(start)
        os.truncate(path, size)

    return forge


def repeat(rows: int) -> Forge:
    """Return a forgery that repeats the last row of a table so many times."""

    def forge(path: Path) -> None:
        before = path.read_bytes()
        with path.open("ab") as file:
            file.write(before.splitlines(keepends=True)[-1] * rows)

    return forge


def write(make: Callable[[], bytes], *, signed: bool = False) -> Forge:
    """Return a forgery with these bytes; `signed` puts the checksum of checkpoints before them."""

    def forge(path: Path) -> None:
        data = make()
        path.write_bytes(hashlib.sha256(data).digest() + data if signed else data)

    return forge


def zip_members(
    names: Iterable[str], content: bytes = b"", kind: int = zipfile.ZIP_STORED
) -> bytes:
    """Return an archive of members with the same content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return file.getvalue()


def save_tree(tree: bytes) -> bytes:
    """Return an archive with this JSON as the tree of a checkpoint."""
    file = io.BytesIO()
    np.savez(file, tree=np.frombuffer(tree, np.uint8))
    return file.getvalue()


def objects(count: int) -> bytes:
    """Return a JSON list of empty objects: three bytes each, which take many times that."""
    return b"[" + b"{}," * count + b"{}]"


def answer_sheet(**changes: bytes) -> bytes:
    """Return answers, valid but for some keys, given in JSON."""
    sheet = {
        "format": b'"shaperun answers 1"',
        "study": b'"tiny"',
        "subject": b'{"environment": {}, "gamma": 0.99, "terms": {}}',
        "table": b'"[]"',
        "digest": b'"x"',
        "answers": b"[]",
    } | changes
    return b"{" + b", ".join(b'"%s": %s' % (k.encode(), v) for k, v in sheet.items()) + b"}"


def study(**changes: str) -> Callable[[], bytes]:
    """Return the study with other keys, given in YAML."""
    kept = {key: value for key, value in yaml.safe_load(STUDY).items() if key not in changes}
    lines = [f"{key}: {value}" for key, value in changes.items()]
    return lambda: "\n".join([yaml.safe_dump(kept), *lines]).encode()


@dataclass(frozen=True)
class Attack:
    """A forged file, by its path in the working folder, and the commands that meet it."""

    path: str
    forge: Forge
    commands: tuple[str, ...]
    base: str = "trained"


TABLES = ("evaluations.csv", "updates.csv", "episodes.csv")
JSON = ("run.json", "DONE.json", "progress.json", "normalization.json")
ENDLESS = 2 * 2**40
STUDIES = {
    "huge": fill(ENDLESS, STUDY.encode()),
    "deep": write(study(arms="[" * 100_000)),
    "mistakes": write(study(arms=f"{{{', '.join(f'a{n}: {{x: 1}}' for n in range(12_000))}}}")),
    "numbers": write(study(seeds=f"[{'1, ' * 45_000}1]")),
    "digits": write(study(seeds="9" * 900_000)),
    "pipe": make_pipe,
    "device": make_device,
    "link": link_to_zeros,
}
DEEP = b"[" * 9_000_000
ANSWERS: dict[str, Forge] = {
    "huge": fill(ENDLESS),
    "objects": write(lambda: answer_sheet(answers=objects(3_000_000))),
    "episodes": write(lambda: answer_sheet(table=b'"%s"' % objects(3_000_000))),
    "deep": write(lambda: answer_sheet(answers=DEEP)),
    "deep table": write(lambda: answer_sheet(table=b'"%s"' % DEEP)),
    "text": write(lambda: answer_sheet(study=b'"%s"' % (b"x" * 9_000_000))),
    "pipe": make_pipe,
    "device": make_device,
    "link": link_to_zeros,
}


def list_attacks() -> dict[str, list[Attack]]:
    """Return the attacks by their kind."""
    many = [str(number) for number in range(200_000)]
    trees: list[Callable[[], bytes]] = [
        lambda: zip_members(["tree.npy"], bytes(GIGABYTE), zipfile.ZIP_DEFLATED),
        lambda: zip_members([*many, "tree.npy"]),
        lambda: save_tree(objects(30_000_000)),
        lambda: zip_members(["tree.npy"], bytes(400_000_000)),
    ]
    policies: list[Callable[[], bytes]] = [
        lambda: zip_members(["policy.pth"], bytes(GIGABYTE), zipfile.ZIP_DEFLATED),
        lambda: zip_members([*many, "policy.pth"]),
    ]
    sizes = (fill(GIGABYTE - 1, keep=True), fill(ENDLESS, keep=True), repeat(2_000_000))
    documents = (write(lambda: DEEP), write(lambda: objects(3_300_000)), fill(ENDLESS, b"["))
    special = (link_to_zeros, make_device, make_pipe)
    checkpoint = f"{RUN}/checkpoint-1.bin"
    return {
        "links, devices, pipes": [
            Attack(f"{RUN}/{n}", f, READERS_OF.get(n, READERS)) for n in FILES for f in special
        ],
        "hard links": [
            Attack(f"{RUN}/{name}", link_to_outside, ("status", "train"), base)
            for name in (*FILES, "checkpoint-2.bin")
            for base in ("trained", "interrupted")
        ],
        "tables": [
            Attack(f"{RUN}/{n}", f, READERS_OF.get(n, READERS)) for n in TABLES for f in sizes
        ],
        "JSON": [
            Attack(f"{RUN}/{n}", f, READERS_OF.get(n, READERS)) for n in JSON for f in documents
        ],
        "archives": [
            *(
                Attack(f"{RUN}/policy.zip", write(make), READERS_OF["policy.zip"])
                for make in policies
            ),
            *(
                Attack(checkpoint, write(make, signed=True), ("status", "train"), "interrupted")
                for make in trees
            ),
        ],
        "studies": [
            attack
            for forge in STUDIES.values()
            for attack in (
                Attack("tiny.yaml", forge, ("check", "fit")),
                Attack("results/tiny/study.yaml", forge, ("status", "train")),
            )
        ],
        "answers": [Attack("answers.json", forge, ("fit",)) for forge in ANSWERS.values()],
    }


class HostileFiles:
    """A study that is attacked: trained, and with its run interrupted after two checkpoints."""

    def __init__(self, folder: Path) -> None:
        import_commands()
        self._folder = folder
        trained, interrupted = folder / "trained", folder / "interrupted"
        trained.mkdir()
        (trained / "tiny.yaml").write_text(STUDY, encoding="utf-8")
        assert not run_command(trained, *COMMANDS["train"]).status
        answers = ROOT / f"experiments/answers/{ANSWERS_OF_ANOTHER}.json"
        shutil.copy(answers, trained / "answers.json")
        self._usual = {name: self._call(trained, "tiny.yaml", name) for name in COMMANDS}
        shutil.copytree(trained, interrupted)
        shutil.rmtree(interrupted / RUN)
        config = parse_study(yaml.safe_load(STUDY))
        with ForkServer() as server:
            run, fault = config.run_config(config.arms["guided"], 0), "die 1 after replace"
            options = {"fault": f"{fault} */checkpoint-2.bin"}
            assert server.train(interrupted / RUN, run, **options).killed

    def attack(self, attack: Attack) -> Iterator[tuple[str, Ending, Counter[str]]]:
        """Forge the file, and yield how each command ends and the counts."""
        work, outside = self._folder / "work", self._folder / "outside"
        for folder in (work, outside):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._folder / attack.base, work)
        forging = multiprocessing.Process(target=_forge, args=(attack, work / attack.path))
        forging.start()  # else the commands would inherit its memory as their peak
        forging.join()
        assert forging.exitcode == 0, attack
        study = "tiny" if attack.path.startswith("results/tiny/study") else "tiny.yaml"
        mine = _read_files(outside)
        assert mine or attack.forge is not link_to_outside
        for name in attack.commands:
            ended = self._call(work, study, name)
            usual = self._usual[name]
            faults = {
                "hangs": ended.status == -signal.SIGKILL
                or ended.seconds > usual.seconds + MAX_SECONDS,
                "memory": ended.megabytes > usual.megabytes + MAX_MEMORY,
                "bugs": ended.status not in (0, 1, 2) or "Traceback" in ended.messages,
                "files outside changed": _read_files(outside) != mine,
            }
            counts = Counter({"cases": 1, "refused": int(ended.status in (1, 2))})
            yield name, ended, counts + Counter({kind: int(hit) for kind, hit in faults.items()})

    def _call(self, folder: Path, study: str, name: str) -> Ending:
        return run_command(folder, *(a.replace("tiny.yaml", study) for a in COMMANDS[name]))


def _forge(attack: Attack, path: Path) -> None:
    run = RunFolder(path.parent)
    hashed = attack.base == "trained" and path.name in run.read_record()["files"]
    attack.forge(path)
    if hashed and stat.S_ISREG(path.lstat().st_mode) and path.stat().st_size <= MAX_FILE_BYTES:
        run.finish()


def _read_files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.glob("*")}
