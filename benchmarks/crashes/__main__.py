"""python -m benchmarks.crashes [--rounds N] [--seed N] [PARTS…]: kill, resume and compare runs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.crashes import page
from benchmarks.crashes.chosen_points import ENVIRONMENTS, MOMENTS, kills
from benchmarks.crashes.every_write import Counts, Passings
from benchmarks.crashes.fork_server import Nursery
from benchmarks.crashes.random_kills import Storm, Tally

ROUNDS = 50

# What has become of the run before -> the fault that it then suffered.
STARTS = {
    "nothing": "",
    "killed before its first checkpoint": "die 3 replaced */progress.json",
    "killed after its second checkpoint": "die 1 kept */checkpoint-2.bin",
}
HARM = ["files that differ", "runs not finished", "files left behind", "checkpoints lost"]


def passings(folder: Path, _: argparse.Namespace) -> tuple[page.Table, str, bool]:
    """Every passing of a tiny run."""
    table: list[list[object]] = [["what was there", "what happened", "cases", *HARM]]
    total = Counts()
    with Nursery() as nursery:
        for number, (start, fault) in enumerate(STARTS.items()):
            points = Passings(nursery, folder / str(number), fault)
            numbers = range(1, len(points.points) + 1)
            for what, happen in {"killed": points.kills, "refused": points.errors}.items():
                counts = happen(numbers)
                total.add(counts)
                table.append([start, what, *counts.row])
                _say(f"{start}, {what}: {counts}")
    return (
        table,
        f"{total.cases:,} cases, each compared with a run that nobody disturbed.",
        total.harmless,
    )


def moments(folder: Path, _: argparse.Namespace) -> tuple[page.Table, str, bool]:
    """Several environments at the moments that matter most."""
    table: list[list[object]] = [["environment", "kills", *HARM]]
    total = Counts()
    with Nursery() as nursery:
        for env_id in ENVIRONMENTS:
            counts = Counts()
            for moment, found in kills(nursery, folder / env_id, env_id):
                _say(f"{env_id}, {moment}: {found}")
                counts.add(found)
            total.add(counts)
            table.append([env_id, *counts.row])
    return table, f"Killed {'; '.join(MOMENTS)}.", total.harmless


def storm(folder: Path, given: argparse.Namespace) -> tuple[page.Table, str, bool]:
    """The real command under random kills."""
    total, weather = Tally(), Storm(folder, given.seed)
    _say(f"undisturbed: {weather.undisturbed:.0f} s")
    for number in range(1, given.rounds + 1):
        tally = weather.round(number)
        total.add(tally)
        _say(f"round {number} of {given.rounds}: {tally}")
    told = (
        f"Seed {given.seed}; a round took {total.seconds / total.rounds:.0f} s on average, "
        f"{weather.undisturbed:.0f} s undisturbed."
    )
    return [["what", "count"], *total.rows], told, total.harmless


PARTS: dict[str, Callable[[Path, argparse.Namespace], tuple[page.Table, str, bool]]] = {
    "passings": passings,
    "moments": moments,
    "storm": storm,
}


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Do the parts, show their tables, and keep those of a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PARTS", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the storm")
    parser.add_argument("--seed", type=int, default=0, help="of the storm's dice")
    given = parser.parse_args()
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    harmless = True
    for name in given.parts or PARTS:
        _say(name)
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            table, told, fine = PARTS[name](Path(folder), given)
        harmless &= fine
        print(f"{told}\n\n{page.markdown(table)}\n")
        if given.rounds >= ROUNDS:
            page.keep(name, table, told)
    sys.exit(0 if harmless else 1)


if __name__ == "__main__":
    main()
