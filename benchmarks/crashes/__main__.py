"""Kill, resume and compare runs: python -m benchmarks.crashes [--rounds N] [--seed N] [PART…]."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.crashes import commands, hostile_files, long_training, surroundings
from benchmarks.crashes.chosen_points import ENVIRONMENTS, POINTS, kill_at_points
from benchmarks.crashes.comparison import HARM, is_harmless
from benchmarks.crashes.every_write import EveryWrite
from benchmarks.crashes.fork_server import ForkServer
from benchmarks.crashes.random_kills import COUNTS, RandomKills
from benchmarks.doc_tables import ROOT, add_choices, describe_machine, format_table, log, publish

PAGE = ROOT / "docs" / "crashes.md"
PACKAGES = ("shaperun", "torch", "stable-baselines3", "gymnasium", "numpy", "filelock")
ROUNDS = 50

# State of the run -> the fault that led to it.
STARTS = {
    "nothing": "",
    "killed before its first checkpoint": "die 3 after replace */progress.json",
    "killed after its second checkpoint": "die 1 after replace */checkpoint-2.bin",
}

Result = tuple[list[list[object]], str, Counter[str]]
"""A table, a sentence on it, and the counts of all its rows."""


def interrupt_every_write(folder: Path, _: argparse.Namespace) -> Result:
    """Interrupt a tiny run at every point of its writes."""
    table: list[list[object]] = [["start", "interruption", "cases", *HARM]]
    total = Counter[str]()
    with ForkServer() as server:
        for index, (start, fault) in enumerate(STARTS.items()):
            run = EveryWrite(server, folder / str(index), fault)
            numbers = range(1, len(run.points) + 1)
            for kind, interrupt in {"killed": run.kill_at, "refused": run.fail_from}.items():
                counts = interrupt(numbers)
                total += counts
                table.append([start, kind, *(counts[name] for name in ("cases", *HARM))])
                log(f"{start}, {kind}: {dict(counts)}")
    return table, f"{total['cases']:,} cases, each compared with an uninterrupted run.", total


def kill_several_environments(folder: Path, _: argparse.Namespace) -> Result:
    """Kill runs of several environments at the chosen points."""
    table: list[list[object]] = [["environment", "kills", *HARM]]
    total = Counter[str]()
    with ForkServer() as server:
        for env_id in ENVIRONMENTS:
            counts = Counter[str]()
            for point, harm in kill_at_points(server, folder / env_id, env_id):
                log(f"{env_id}, {point}: {dict(harm)}")
                counts += harm
            total += counts
            table.append([env_id, *(counts[name] for name in ("cases", *HARM))])
    return table, f"Killed {'; '.join(POINTS)}.", total


def kill_at_random(folder: Path, options: argparse.Namespace) -> Result:
    """Kill the processes of the real command at random."""
    total, study = Counter[str](), RandomKills(folder, options.seed)
    log(f"undisturbed: {study.undisturbed:.0f} s")
    for number in range(1, options.rounds + 1):
        counts = study.play_round(number)
        total += counts
        log(f"round {number} of {options.rounds}: {dict(counts)}")
    sentence = (
        f"Seed {options.seed}; a round took {total['seconds'] / total['rounds']:.0f} s on average, "
        f"{study.undisturbed:.0f} s undisturbed."
    )
    return [["", "count"], *([name, total[name]] for name in COUNTS)], sentence, total


def kill_other_commands(folder: Path, options: argparse.Namespace) -> Result:
    """Kill commands other than `train` with PPO at random."""
    columns, total = (*commands.COUNTS, *commands.HARM), Counter[str]()
    table: list[list[object]] = [["command", *columns]]
    rounds = options.rounds // 10
    for name, command in commands.COMMANDS.items():
        killed = commands.KilledCommand(folder / name, command, options.seed)
        log(f"{name}, undisturbed: {killed.undisturbed:.0f} s")
        counts = sum((killed.play_round(n) for n in range(rounds)), Counter[str]())
        log(f"{name}: {dict(counts)}")
        total += counts
        table.append([name, *(counts[column] for column in columns)])
    return table, f"Seed {options.seed}; {rounds} rounds per command.", total


def disturb_surroundings(folder: Path, options: argparse.Namespace) -> Result:
    """Let the clock jump, and lose nodes of a Ray cluster."""
    study, nodes = surroundings.Surroundings(folder), options.rounds // 16
    counts = {f"a clock jumps {name}": study.jump(name) for name in surroundings.JUMPS}
    counts["a node of a Ray cluster is lost"] = sum(study.lose_nodes(nodes), Counter[str]())
    columns = ("rounds", *surroundings.HARM)
    rows = [[name, *(count[column] for column in columns)] for name, count in counts.items()]
    sentence = "Each round trains 2 arms × 3 seeds."
    return [["disturbance", *columns], *rows], sentence, sum(counts.values(), Counter[str]())


def train_for_minutes(folder: Path, options: argparse.Namespace) -> Result:
    """Watch memory and open files during a long training."""
    minutes = long_training.MINUTES * min(1.0, options.rounds / ROUNDS)
    samples = long_training.watch_training(folder, minutes)
    return long_training.make_table(samples), long_training.describe(samples), Counter()


def meet_hostile_files(folder: Path, _: argparse.Namespace) -> Result:
    """Run the commands on forged results, studies and answers."""
    columns, total = ("cases", "refused", *hostile_files.FAULTS), Counter[str]()
    table: list[list[object]] = [["forged", *columns]]
    study = hostile_files.HostileFiles(folder)
    for kind, attacks in hostile_files.list_attacks().items():
        counts = Counter[str]()
        for attack in attacks:
            for name, ended, found in study.attack(attack):
                log(f"{attack.path}, {name}: {ended}")
                counts += found
        total += counts
        table.append([kind, *(counts[column] for column in columns)])
    return table, hostile_files.SENTENCE, total


PARTS = {
    "every-write": interrupt_every_write,
    "chosen-points": kill_several_environments,
    "random-kills": kill_at_random,
    "commands": kill_other_commands,
    "surroundings": disturb_surroundings,
    "long-training": train_for_minutes,
    "hostile-files": meet_hostile_files,
}


def main() -> None:
    """Run the parts and print their tables; those of a full number of rounds are published."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    add_choices(parser, "part", PARTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="fewer shorten random parts")
    parser.add_argument("--seed", type=int, default=0, help="of random kills")
    options = parser.parse_args()
    harmless = True
    for name in options.parts or PARTS:
        log(name)
        with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
            table, sentence, counts = PARTS[name](Path(folder), options)
        harmless &= is_harmless(counts)
        left = sum(isinstance(cell, str) for cell in table[-1])
        text = f"{sentence} On {describe_machine(PACKAGES)}.\n\n{format_table(table, left)}"
        publish(PAGE, {name: text}, complete=options.rounds >= ROUNDS)
    sys.exit(0 if harmless else 1)


if __name__ == "__main__":
    main()
