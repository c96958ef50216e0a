"""Counts by kind of what becomes of wrong inputs: the whole table of kinds, and mutations by number.

    python -m tests.campaign.count --mutations 200
    PYTHONPATH=OTHER_VERSION:. python -P -m tests.campaign.count      the same inputs, given to another version

Each input has a process of its own, so that hangs are counted too. Nothing is trained.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
from collections import Counter
from pathlib import Path
from shlex import split

import lightning

from tests.campaign.cases import CASES, Case
from tests.campaign.fuzz import KINDS, outcome, reached

OUTCOMES = ("told", "accepted", "traceback", "hang")
"""In a sentence with exit code 2; another exit code; a traceback; still at it, or ended by the system."""


def in_a_process(typed: list[str], folder: Path, seconds: int, memory: int) -> str:
    """Return what becomes of a command in a process that has so many seconds of CPU time and bytes of memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ["CLASSMATES_CACHE"] = str(folder / "cache")
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        try:
            os.write(writing, outcome(typed)[0].encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said or "hang"


def of_case(case: Case, folder: Path) -> list[str]:
    """Write a case's files and return what is typed."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return split(case.typed)


def count(mutations: int, seconds: int, memory: int) -> dict[str, Counter[str]]:
    """Try every case and so many mutations of each sort."""
    counts: dict[str, Counter[str]] = {}
    for kind, cases in CASES.items():
        counts[kind] = Counter()
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                counts[kind][in_a_process(of_case(case, Path(folder)), Path(folder), seconds, memory)] += 1
    numbers = random.Random(0)
    here = Path.cwd()
    for kind, make in KINDS.items() if mutations else ():
        name = f"mutated {kind}"
        counts[name] = Counter()
        for _ in range(mutations):
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                typed = make(numbers)
                os.chdir(here)
                counts[name][in_a_process(typed, Path(folder), seconds, memory)] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=0, help="of settings, recipes, cards and flags each")
    parser.add_argument("--seconds", type=int, default=10, help="of CPU time, after which an input hangs")
    parser.add_argument("--memory", type=float, default=12, help="GiB that an input may take")
    given = parser.parse_args()
    lightning.Trainer.fit = reached  # type: ignore[method-assign]
    counts = count(given.mutations, given.seconds, int(given.memory * 2**30))
    print("| kind | " + " | ".join(OUTCOMES) + " |\n|---|" + "---:|" * len(OUTCOMES))
    for kind, found in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"| {kind} | " + " | ".join(str(found[how]) for how in OUTCOMES) + " |")


if __name__ == "__main__":
    main()
