"""A student that answers early, as one ONNX file: thresholds from validation images, what they save measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from classmates._csv import as_csv
from classmates._files import output_file
from classmates._machine import cpu_name
from classmates._progress import bar
from classmates._threads import torch_threads
from classmates.deployment.early_exit_graph import early_exit_model, every_exit_model
from classmates.deployment.early_exit_table import EarlyExits, Point
from classmates.deployment.figures import exit_curve
from classmates.deployment.formats import Source, onnx_model, onnx_session, require, save_onnx
from classmates.deployment.measuring import (
    BATCH,
    Images,
    Latency,
    Part,
    latency,
    latency_of,
    note_in_card,
    paired_difference,
    torch_runner,
)
from classmates.errors import UserError, first_line
from classmates.evaluation.exits import score_exits, tune_thresholds
from classmates.networks.heads.exits import MultiExit, first_confident
from classmates.reporting.theme import save
from classmates.runs.exits import early_exit
from classmates.runs.student import StudentCard, read_card

if TYPE_CHECKING:
    import onnx

COMMON = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
"""The thresholds of the curve, each for all exits."""
TIMED, FEWEST = 200, 20
"""The most and the fewest test images that are timed, one by one, at each set of thresholds."""
ROUNDS = 5
"""How often each of them is."""
SECONDS = 60
"""How long all timings together may take, where that leaves enough images."""
SAME = 0.99
"""The share of the test images of which file and PyTorch must say the same class."""


def export_early_exit(
    run: Path, exits: MultiExit, card: StudentCard, images: Images, folder: Path, threads: int
) -> EarlyExits:
    """Write ``early_exit.onnx`` and its curve to a folder, and thresholds and measures into the card.

    The file takes one image at a time: a batch would have to wait for its hardest image. In PyTorch the same network
    takes batches and goes on with those images alone that have no answer yet (``load_early_exit``).

    Raises:
        UserError: ONNX is not installed, no validation images, a network that cannot be exported, or a file whose
            answers differ from PyTorch's.
    """
    require("onnx")
    with torch_threads(threads):
        thresholds = tuple(tune_thresholds(*answers_of(exits, images, "val"), exits.costs()))
        source = Source(exits.network, replace(card, exit_thresholds=thresholds), dynamic_batch=False)
        everyone, labels = answers_of(exits, images, "test")
        every = exported(exits, source)
        with output_file(folder / "early_exit.onnx") as path:
            save_onnx(early_exit_model(every, len(card.class_names), thresholds), path, source)
            check_file(path, everyone, thresholds, images, threads)
            points, timed = measure(every, exits, source, everyone, labels, images, threads)
        batch = images.timed(BATCH)
        networks = (exits.network, early_exit(exits, thresholds))
        plain, early = (latency(torch_runner(network), batch) for network in networks)
    found = EarlyExits(tuple(points), len(labels), timed, (plain, early), threads, folder / "early_exit.onnx", run)
    with output_file(found.file.with_suffix(".csv")) as path:
        path.write_text(as_csv(found.frame()), encoding="utf-8")
    save(exit_curve(found.points), found.file.with_suffix(""))
    row: dict[str, Any] = {**found.points[1].row(), "file": found.file.name, "threads": threads, "cpu": cpu_name()}
    card = read_card(run)
    note_in_card(run, replace(card, exit_thresholds=thresholds), {"early_exit": row}, images)
    return found


def answers_of(exits: MultiExit, images: Images, part: Part) -> tuple[Tensor, Tensor]:
    """Return all exits' logits of a part of the images, [k, N, K], and the labels, [N]."""
    by_image, labels = images.answers(lambda batch: torch_runner(exits)(batch).transpose(0, 1), BATCH, "exits", part)
    return by_image.transpose(0, 1), labels


def exported(exits: MultiExit, source: Source) -> onnx.ModelProto:
    """Return the model of all exits; UserError where the exporter cannot make it."""
    try:
        return every_exit_model(exits, source)
    except Exception as error:  # exporters raise what they like
        raise UserError(f"the student with its exits cannot be exported as onnx: {first_line(error)}") from error


def check_file(path: Path, everyone: Tensor, thresholds: Sequence[float], images: Images, threads: int) -> None:
    """Run a file on all test images, one by one; UserError unless it answers as PyTorch does.

    everyone: all exits' logits there, [k, N, K].
    """
    session = onnx_session(path, threads)

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": image.numpy()})[0])

    given, _ = images.answers(run, 1, "early_exit")
    same = (given.argmax(1) == chosen(everyone, thresholds).argmax(1)).double().mean().item()
    if same < SAME:
        raise UserError(
            f"the ONNX file says another class than PyTorch of {1 - same:.1%} of the test images: it was not kept"
        )


def chosen(everyone: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return the logits that answer each image, [N, K], of all exits' logits [k, N, K]."""
    place = first_confident(everyone.softmax(-1).amax(-1), torch.tensor(thresholds))
    return torch.cat([everyone, everyone.mean(0, keepdim=True)])[place, torch.arange(len(place))]


def measure(
    every: onnx.ModelProto,
    exits: MultiExit,
    source: Source,
    everyone: Tensor,
    labels: Tensor,
    images: Images,
    threads: int,
) -> tuple[list[Point], int]:
    """Return the student's point, that of the tuned thresholds and the curve, and how many images they were timed on.

    All are timed in onnxruntime.
    """
    timed = [batch for batch, _ in images.batches("test", 1, TIMED)]
    right = (everyone[-1].argmax(1) == labels).double()
    student = onnx_model(exits.network, source)
    (first,) = time_each([student], timed[:FEWEST], threads)
    of_each = first.mean / 1000 * (1 + ROUNDS) * (2 + len(COMMON))
    timed = timed[: max(FEWEST, int(SECONDS / of_each))]
    costs, classes = exits.costs(), len(source.card.class_names)
    sets = {"tuned": source.card.exit_thresholds or (), **{f"{one:g}": (one,) * len(costs) for one in COMMON}}
    models = (early_exit_model(every, classes, thresholds) for thresholds in sets.values())
    plain, *early = time_each([student, *models], timed, threads)
    points = [Point("student", right.mean().item(), paired_difference(right, right), plain, 1.0)]
    for (name, thresholds), found in zip(sets.items(), early, strict=True):
        score = score_exits(everyone, labels, costs, thresholds)
        right_early = (chosen(everyone, thresholds).argmax(1) == labels).double()
        difference = paired_difference(right_early, right, images.groups)
        points.append(Point(name, score.accuracy, difference, found, score.cost, tuple(score.shares), thresholds))
    return points, len(timed)


def time_each(models: Sequence[onnx.ModelProto], images: Sequence[Tensor], threads: int) -> list[Latency]:
    """Time models in onnxruntime on images, [1, C, H, W] each, one by one: how long one takes depends on it.

    The time of an image is the median of ``ROUNDS``. Each goes through all models, so that what else the machine does
    for a while is in a round or two of each, and falls out.
    """
    sessions = [onnx_session(model.SerializeToString(), threads) for model in models]

    def seconds(session: Any, image: Tensor) -> float:
        start = time.perf_counter()
        session.run(["logits"], {"images": image.numpy()})
        return time.perf_counter() - start

    rounds = [
        [[seconds(session, image) for image in images] for session in sessions]
        for _ in bar(range(1 + ROUNDS), "timing", "round", 1 + ROUNDS)
    ]
    return [latency_of(times) for times in np.median(rounds[1:], axis=0).tolist()]  # the first warms up
