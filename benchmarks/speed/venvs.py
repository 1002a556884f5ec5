"""Environments of their own for those that shaperun is measured beside, from published packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from venv import EnvBuilder

from benchmarks.speed.measure import ROOT, run, tell

# What is run while the clock runs has our versions there; the rest takes what a peer asks for
# (one of rl_zoo3's dependencies refuses our python-dateutil).
SHARED = ("torch", "numpy", "gymnasium", "stable_baselines3", "sb3_contrib", "Box2D", "cloudpickle")


@dataclass(frozen=True)
class Peer:
    """Somebody else's packages, each with its version."""

    name: str
    packages: tuple[str, ...]

    def python(self) -> Path:
        """The Python of its own environment, which is made if it is not there."""
        venv = ROOT / "benchmarks" / ".venvs" / self.name
        python, stamp = venv / "bin" / "python", venv / "installed"
        shared = pins()
        wanted = "\n".join([*self.packages, *shared])
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        tell(f"installing {', '.join(self.packages)} into {venv.relative_to(ROOT)}, once")
        EnvBuilder(clear=True, with_pip=True).create(venv)
        quiet = ["--quiet", "--disable-pip-version-check"]
        run([python, "-m", "pip", "install", *quiet, *self.packages, "gymnasium[box2d]", *shared])
        stamp.write_text(wanted, encoding="utf-8")  # last, so a broken installation is tried again
        return python


RL_ZOO3 = Peer("rl_zoo3", ("rl_zoo3==2.9.2",))
SBX = Peer("sbx", ("sbx-rl==0.28.0", "jax==0.10.2"))


def pins() -> list[str]:
    """Our versions of what both sides share."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in SHARED]


def versions() -> list[str]:
    """What the peers are, for the line over the table."""
    return [package.replace("==", " ") for peer in (RL_ZOO3, SBX) for package in peer.packages]
