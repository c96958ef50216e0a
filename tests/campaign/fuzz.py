"""The long campaign, by hand: settings, recipes, cards and flags mutated at random, each tried as a user would.

    python -m tests.campaign.fuzz --minutes 5 --seed 0

Nothing is trained: a training that would begin counts as accepted. Every traceback is shown with what led to it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import yaml

from classmates.cli import main
from tests.campaign.cases import CARD

SETTINGS = """
data: digits
model: resnet8
method: {class_path: classmates.MCL, init_args: {peers: 2, share: -2, beta: 0.1, positives: bank}}
train_size: 60
batch_size: 20
epochs: 2
val_fraction: 0.1
optimizer: SGD
optimizer_args: {momentum: 0.9, weight_decay: 0.0005}
schedule: MultiStepLR
schedule_args: {milestones: [1, 2], gamma: 0.1}
lr: 0.1
warmup_epochs: 0.5
augmentation: {crop_padding: 1, flip: false, mixup: 0.0}
model_args: {global_pool: avg}
stages: null
loggers: [tensorboard]
precision: 32-true
memory_format: contiguous
accelerator: cpu
max_time: 00:01:00:00
"""
RECIPE = """
title: A table
base: none
settings: {epochs: 1, train_size: 60, batch_size: 20, precision: 32-true, memory_format: contiguous}
models: [resnet8]
data: [digits]
seeds: 1
reference: Baseline
score: {who: student, metric: top1, as: error}
rows:
  Baseline: {method: {class_path: classmates.Baseline}}
  LS: {method: {class_path: classmates.LabelSmoothing, init_args: {epsilon: 0.1}}, lr: 0.1}
models_settings: {resnet8: {epochs: 1, rows: {LS: {lr: 0.01}}}}
scores: {LS: {who: student}}
published: {resnet8: {Baseline: 71.2, LS: 72.1 ± 0.3}}
figures: [learning_curves]
notes: [A note]
"""
NUMBERS = (None, True, 0, -1, 3, 1.5, 1e30, float("nan"), float("inf"))
TEXTS = ("", "text", "=1+1", "../..", "é\u202e", "x" * 3000)
NESTED: tuple[Any, ...] = ([], [1], ["a", None], [[1]], {}, {"a": 1}, {"class_path": ".a.B"}, {"init_args": "x"})
ODD = (*NUMBERS, *TEXTS, *NESTED)
"""What is put in the place of a value."""


class Reached(Exception):
    """Training would begin."""


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value within a value."""
    if place:
        yield place
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield from places(inner, (*place, key))


def mutated(original: Any, numbers: random.Random) -> Any:
    """Return a copy in which one or two values are others, are missing, or have another name."""
    value = copy.deepcopy(original)
    for _ in range(numbers.choice((1, 1, 2))):
        *way, last = numbers.choice([*places(value)])
        inner = value
        for key in way:
            inner = inner[key]
        change = numbers.random()
        if change < 0.1:
            del inner[last]
        elif change < 0.2 and isinstance(inner, dict):
            inner[f"{last}x"] = inner.pop(last)
        else:
            inner[last] = copy.deepcopy(numbers.choice(ODD))
    return value


def settings(numbers: random.Random) -> list[str]:
    Path("own.yaml").write_text(yaml.safe_dump(mutated(yaml.safe_load(SETTINGS), numbers)), encoding="utf-8")
    return ["train", "--config", "own.yaml", "--out", "out", "--progress", "false"]


def recipes(numbers: random.Random) -> list[str]:
    Path("own.yaml").write_text(yaml.safe_dump(mutated(yaml.safe_load(RECIPE), numbers)), encoding="utf-8")
    return ["compare", "--recipe", "own.yaml", "--out", "out", "--dry_run", "true"]


def cards(numbers: random.Random) -> list[str]:
    Path("run").mkdir(exist_ok=True)
    Path("run/student.json").write_text(json.dumps(mutated(json.loads(CARD), numbers)), encoding="utf-8")
    Path("run/student.safetensors").touch()
    return [numbers.choice(("predict", "export", "evaluate")), "run", *(["x.png"] if numbers.random() < 0.5 else [])]


def flags(numbers: random.Random) -> list[str]:
    names = [".".join(map(str, place)) for place in places(yaml.safe_load(SETTINGS)) if isinstance(place[-1], str)]
    given = [f"--{numbers.choice(names).replace('class_path', 'x')}" for _ in range(2)]
    values = [json.dumps(value) if isinstance(value, list | dict) else str(value) for value in ODD]
    typed = [word for flag in given for word in (flag, numbers.choice(values))]
    return ["train", *typed, "--train_size", "60", "--out", "out", "--accelerator", "cpu"]


KINDS: dict[str, Callable[[random.Random], list[str]]] = {
    "settings": settings,
    "recipes": recipes,
    "cards": cards,
    "flags": flags,
}


def outcome(typed: list[str]) -> tuple[str, str]:
    """Run a command; return "told", "accepted" or "traceback", and what was printed."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(typed)
    except Reached:
        return "accepted", ""
    except Exception:
        return "traceback", traceback.format_exc(limit=-2)
    return ("told" if code == 2 else "accepted"), said.getvalue()


def reached(*_: Any, **__: Any) -> None:
    """Stand in for the training."""
    raise Reached


def campaign(minutes: float, seed: int) -> int:
    """Try mutations for so long; print how many of each kind came out how, and return the number of tracebacks."""
    numbers, counts = random.Random(seed), Counter[tuple[str, str]]()
    end = time.monotonic() + 60 * minutes

    lightning.Trainer.fit = reached  # type: ignore[method-assign]
    while time.monotonic() < end:
        kind = numbers.choice([*KINDS])
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            os.environ["CLASSMATES_CACHE"] = folder
            typed = KINDS[kind](numbers)
            how, text = outcome(typed)
            if how == "traceback":
                file = Path("own.yaml")
                content = file.read_text(encoding="utf-8") if file.exists() and "own.yaml" in typed else ""
                print(kind, *typed, content, text, sep="\n", end="\n\n")
        counts[kind, how] += 1
    for kind in KINDS:
        print(f"{kind:10}", *(f"{counts[kind, how]:6} {how}" for how in ("told", "accepted", "traceback")))
    return sum(count for (_, how), count in counts.items() if how == "traceback")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    raise SystemExit(bool(campaign(given.minutes, given.seed)))
