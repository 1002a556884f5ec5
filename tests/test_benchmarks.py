"""The benchmarks work; their figures are another matter."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "benchmarks" / "README.md"


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_quick_row_is_shown_and_not_kept() -> None:
    before = README.read_bytes()
    done = benchmarks("--quick", "kernel")
    assert done.returncode == 0, done.stderr
    assert "kernel, 6 terms × 4,096" in done.stdout
    assert README.read_bytes() == before


def test_an_unknown_row_is_refused_by_name() -> None:
    done = benchmarks("kernle")
    assert done.returncode == 2
    assert "there is no row kernle; there are training, shaping," in done.stderr
