"""The long campaign of ends from outside: every signal to every process of every command, on this machine.

``python -m tests.campaign.signals_by_hand [train] [ranks] [compare]`` prints a line a case: the exit code, the last
line said, and whether a process trains on. Some ten minutes on two cores.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

from tests.campaign.test_signals import COMPARED, ENDLESS
from tests.fixtures.commands import children, is_alive, wait_for

COMMANDS = {
    "train": f"train --recipe none --data digits --model resnet8 {ENDLESS} --out",
    "ranks": f"train --recipe none --data digits --model resnet8 {ENDLESS} --devices 2 --strategy ddp --out",
    "compare": f"compare --recipe none --methods Baseline --seeds 1 --workers 1 {COMPARED} --out",
}
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL)
GRACE = 30.0
"""Seconds after which a process that trains on is counted as left behind."""


def case(folder: Path, command: str, to_child: bool, number: signal.Signals) -> tuple[int | None, str, bool]:
    """Return the exit code (None: it did not end), the last line said, and whether a process was left behind."""
    out, log = folder / "out", folder / "log"
    with log.open("w") as file:
        typed = [sys.executable, "-m", "classmates", *COMMANDS[command].split(), str(out)]
        process = subprocess.Popen(typed, stdout=file, stderr=file)
    places = (out, out / "runs")
    wait_for(lambda: any((run / "checkpoints" / "last.ckpt").exists() for place in places for run in folders(place)))
    others = children(process.pid)
    os.kill(others[0] if to_child else process.pid, number)
    try:
        code = process.wait(60)
    except subprocess.TimeoutExpired:
        code = process.kill()
    end = time.monotonic() + GRACE
    while any(map(is_alive, others)) and time.monotonic() < end:
        time.sleep(0.1)
    left = [one for one in others if is_alive(one)]
    for one in left:
        os.kill(one, signal.SIGKILL)
    return code, log.read_text().replace("\r", "\n").strip().splitlines()[-1], bool(left)


def folders(place: Path) -> list[Path]:
    """A folder and those in it; a command that begins may make and remove some."""
    with suppress(FileNotFoundError):
        return [place, *place.iterdir()]
    return [place]


def main(chosen: list[str]) -> int:
    """Try every case, or those of some commands; return how many seemed to succeed or left a process behind."""
    wrong = 0
    for command, to_child, number in product(chosen or COMMANDS, (False, True), SIGNALS):
        if command == "train" and to_child:
            continue
        with tempfile.TemporaryDirectory() as folder:
            code, said, left = case(Path(folder), command, to_child, number)
        wrong += not code or left
        who, behind = "child " if to_child else "parent", "LEFT BEHIND" if left else ""
        print(f"{command:8} {who} {number.name:8} exit {code} {behind} {said[:150]}", flush=True)
    print(f"{wrong} wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
