"""Virtual environments of the tools that shaperun is compared with, from published packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from venv import EnvBuilder

from benchmarks.doc_tables import ROOT, log
from benchmarks.speed.measure import run

# Packages that run while the clock runs have the same versions everywhere; the others follow the
# tool's requirements (one of rl_zoo3's dependencies excludes this project's python-dateutil).
SHARED = ("torch", "numpy", "gymnasium", "stable_baselines3", "sb3_contrib", "Box2D", "cloudpickle")


@dataclass(frozen=True)
class Peer:
    """A tool to compare with: its packages, each with a version."""

    name: str
    packages: tuple[str, ...]

    def python(self) -> Path:
        """Return the Python of its virtual environment, which is created if it is missing."""
        venv = ROOT / "benchmarks" / ".venvs" / self.name
        python, stamp = venv / "bin" / "python", venv / "installed"
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        shared = [line for line in constraints if line.partition("==")[0] in SHARED]
        requirements = "\n".join([*self.packages, *shared])
        if stamp.exists() and stamp.read_text(encoding="utf-8") == requirements:
            return python
        log(f"installing {', '.join(self.packages)} into {venv.relative_to(ROOT)}, once")
        EnvBuilder(clear=True, with_pip=True).create(venv)
        quiet = ["--quiet", "--disable-pip-version-check"]
        run([python, "-m", "pip", "install", *quiet, *self.packages, "gymnasium[box2d]", *shared])
        # Written last, so that a broken installation is tried again.
        stamp.write_text(requirements, encoding="utf-8")
        return python


RL_ZOO3 = Peer("rl_zoo3", ("rl_zoo3==2.9.2",))
SBX = Peer("sbx", ("sbx-rl==0.28.0", "jax==0.10.2"))


def peer_versions() -> list[str]:
    """Return the packages of the peers, each with its version."""
    return [package.replace("==", " ") for peer in (RL_ZOO3, SBX) for package in peer.packages]
