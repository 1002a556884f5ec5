"""Find the policies that runs start from, in the results folder or in a file of their own."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shaperun.common.errors import UserError
from shaperun.common.files import open_regular, read_regular
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import RunConfig, StartPolicy, Study

if TYPE_CHECKING:
    from shaperun.runs.plan import Run

PARAMETERS = "policy.pth"  # in a policy.zip of stable-baselines3
_MAX_BYTES = 200_000_000  # the largest networks take 40 MB


def find_start(study: Study, arm: str, config: RunConfig) -> RunConfig:
    """Return a run's configuration with the file and the hash of the policy that it starts from.

    The hash is that of the run itself if the policy is no longer there, and None if neither is.
    """
    source = config.training.start_from
    if source is None:
        return config
    path = Path(source).absolute()
    if not source.endswith(".zip"):
        folder = _source_run(study.results, source, config.seed)
        path = folder.policy.absolute()
        finished = folder.read_state(by_size=True) == "done"
    else:
        finished = path.is_file()
    digest = hash_policy(path) if finished else None
    if digest is None:
        recorded = StudyFolder(study.results / study.study).run(arm, config.seed).read_start_hash()
        digest = recorded
    return config.model_copy(update={"start": StartPolicy(path=str(path), sha256=digest)})


def _source_run(results: Path, source: str, seed: int) -> RunFolder:
    study, arm, *given = source.split("/")
    return StudyFolder(results / study).run(arm, int(given[0]) if given else seed)


def hash_policy(file: Path) -> str | None:
    """Return the SHA-256 of the parameters in a policy.zip and of the normalization beside it.

    None if there are no parameters.
    """
    digest = hashlib.sha256()
    normalization = RunFolder(file.parent).normalization
    try:
        with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
            if archive.getinfo(PARAMETERS).file_size > _MAX_BYTES:
                return None
            digest.update(archive.read(PARAMETERS))
        if normalization.exists():
            digest.update(read_regular(normalization, _MAX_BYTES))
    except Exception:  # malicious bytes may raise anything
        return None
    return digest.hexdigest()


def check_sources(study: Study, runs: Sequence[Run], *, fresh: bool) -> None:
    """Check that the policies that runs start from are there, and stay.

    Raises:
        UserError: one is missing, or would be deleted by the same command (`fresh`).
    """
    starting = [run for run in runs if run.config.start]
    if not starting:
        return
    missing = [run for run in starting if run.config.start and not run.config.start.sha256]
    if missing:
        run = missing[0]
        names = dict.fromkeys(describe_source(other.config) for other in missing)
        runs_there = [name for name in names if not name.endswith(".zip")]
        more = f" and {len(runs_there) - 3} more" if len(runs_there) > 3 else ""
        listed = ", ".join(runs_there[:3]) + more
        cause = f"not finished in {study.results}: {listed}; train that first"
        if not runs_there:
            cause = f"{next(iter(names))} holds no policy of stable-baselines3; name its policy.zip"
        raise UserError(f"{study.place_of_start(run.arm)}: {cause}")
    own = StudyFolder(study.results / study.study)
    deleted = {str(own.run(run.arm, run.seed).policy.absolute()) for run in runs if fresh}
    for run in starting:
        if run.config.start and run.config.start.path in deleted:
            raise UserError(
                f"{study.place_of_start(run.arm)}: --fresh would delete "
                f"{describe_source(run.config)}, which {run.arm} starts from; select the arms to "
                "train with --arms"
            )


def describe_source(config: RunConfig) -> str:
    """Return the run, or the file, whose policy a run starts from."""
    source = config.training.start_from or ""
    return f"{source}/{config.seed}" if source.count("/") == 1 and source[-4:] != ".zip" else source
