"""What a finished run leaves: the one look at the test set, the student, the record and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from classmates.contracts import Batch, NetworkOutput
from classmates.data.batches.loaders import eval_loader
from classmates.data.loading import ImageData, Split
from classmates.evaluation.collect import Predictions, as_arrays, collect
from classmates.evaluation.exits import score_exits, tune_thresholds
from classmates.evaluation.predict import read
from classmates.methods.base import Method
from classmates.networks.building.complexity import count_parameters, multiply_adds
from classmates.runs.files import whole_file
from classmates.runs.folder import RunFolder
from classmates.runs.student import StudentCard, save_student
from classmates.tasks.metrics import Score, score
from classmates.training.callbacks import History, load_checkpoint
from classmates.training.environment import environment, peak_memory_mib
from classmates.training.module import TrainingModule


@dataclass(frozen=True)
class Result:
    """What came out of a run.

    student: the trained network, plain and in evaluation mode. method: all that was trained, for those that can do
    more at inference (the exits of SD). test: scores by whose they are (student, peers,
    ensemble), after the last epoch. folder: where everything is. record: what ``result.json`` holds.
    """

    student: nn.Module
    method: Method
    test: dict[str, Score]
    folder: Path
    record: dict[str, Any]

    def __str__(self) -> str:
        training = self.record["training"]
        lines = [f"{self.record['name']}: {training['epochs']} epochs in {training['seconds']:.0f} s", ""]
        lines.append(f"{'test':<12}{'top-1':>8}  {'95 % interval':<16}{'NLL':>7}{'ECE':>8}")
        for who, scores in self.test.items():
            interval = "{:.2%}-{:.2%}".format(*scores["top1_interval"])
            lines.append(f"{who:<12}{scores['top1']:>8.2%}  {interval:<16}{scores['nll']:>7.3f}{scores['ece']:>8.3f}")
        if exits := self.record["exits"]:
            lines += ["", f"answering early: {exits['top1']:.2%} at {exits['cost']:.0%} of the student's compute"]
        lines += ["", f"The student is what you deploy: {self.folder / 'student.safetensors'}"]
        if (self.folder / "report.html").exists():
            lines += [f"The report, for a browser:      {self.folder / 'report.html'}"]
        return "\n".join(lines)


def finish(
    run: RunFolder,
    name: str,
    trainer: L.Trainer,
    module: TrainingModule,
    images: ImageData,
    card: StudentCard,
    notes: list[str],
    *,
    progress: bool,
) -> Result:
    """Scores everyone on the test set, once, and writes student and record; on the first process only."""
    method, device = module.method, trainer.strategy.root_device
    memory = peak_memory_mib(device)
    student = method.student().eval()
    if not trainer.is_global_zero:
        return Result(student, method, {}, run.folder, {})
    batch_size, num_workers = run.settings["batch_size"], run.settings["num_workers"]  # what is known to fit

    def look_at(split: Split, description: str) -> Predictions:
        batches = eval_loader(images, split, batch_size, num_workers=num_workers, device=device)
        return predict_all(method, batches, device, description, progress)

    predictions = look_at(images.test, "test")
    test = {who: score(logits, predictions.labels) for who, logits in predictions.logits.items()}
    validation = held_out = None
    if images.val is not None:
        look_at_validation = partial(look_at, images.val, "validation")
        held_out = look_at_validation()
        validation = score_validation(run, method, trainer.current_epoch, held_out, look_at_validation)
    history = next(callback for callback in trainer.callbacks if isinstance(callback, History)).rows  # type: ignore[attr-defined]
    seconds = sum(row["seconds"] for row in history)
    record = {
        "name": name,
        "method": type(method).__name__,
        "model": run.settings["model"],
        "data": images.name,
        "seed": run.settings["seed"],
        "epochs": run.settings["epochs"],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "test": test,
        "validation": validation,
        "exits": dynamic_exits(method, held_out, predictions),
        "training": {
            "epochs": len(history),
            "steps": trainer.global_step,
            "seconds": seconds,
            "images_per_second": sum(row["images_per_second"] * row["seconds"] for row in history) / seconds,
            "peak_memory_mib": memory,
        },
        "student": {
            "parameters": count_parameters(student),
            "multiply_adds": multiply_adds(student, images.input_shape),
        },
        "training_parameters": count_parameters(method),
        "train_images": len(images.train.labels),
        "notes": [*notes, *unfinished(history, run.settings["epochs"])],
        "environment": environment(device),
        "config": run.settings,
    }
    save_student(run.folder, student, card)
    pictures = [picture(images.test, row, card) for row in predictions.most_wrong().tolist()]
    shape = (0, *images.image_size, images.channels)
    arrays = as_arrays(
        predictions,
        np.stack(pictures) if pictures else np.zeros(shape, np.uint8),
        [stage.name for stage in method.networks.architecture.stages],
    )
    with whole_file(run.evaluation) as path, path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    with whole_file(run.result) as path:
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")
    method.cpu()
    return Result(student, method, test, run.folder, record)


def predict_all(
    method: Method, batches: Iterable[Batch], device: torch.device, description: str, progress: bool
) -> Predictions:
    """Everyone's logits on a split, and the student's features, in evaluation mode."""
    method.to(device).eval()

    def look(batch: Tensor) -> tuple[dict[str, Tensor], NetworkOutput | None]:
        outputs = method.networks(batch.to(device))
        return method.predictions(outputs), outputs[-1]

    return collect(look, batches, description=description, progress=progress)


def score_validation(
    run: RunFolder, method: Method, epoch: int, last: Predictions, look_again: Callable[[], Predictions]
) -> dict[str, Any]:
    """Scores on the validation split after the last epoch and, looked at again, after the best one."""

    def scores(predictions: Predictions) -> dict[str, Score]:
        return {who: score(logits, predictions.labels) for who, logits in predictions.logits.items()}

    final = {name: value.clone() for name, value in method.state_dict().items() if isinstance(value, Tensor)}
    checkpoint = load_checkpoint(run.best)
    prefix = "method."
    weights = {key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items()}
    method.load_state_dict(weights)
    best = look_again()
    method.load_state_dict(final, strict=False)
    return {"last": {"epoch": epoch, **scores(last)}, "best": {"epoch": checkpoint["epoch"] + 1, **scores(best)}}


def dynamic_exits(method: Method, validation: Predictions | None, test: Predictions) -> dict[str, Any] | None:
    """How a network with exits does if it may answer early: thresholds tuned on validation, scored on test.

    They are the cheapest that are no less accurate than the student on validation images. None without exits, or
    without validation images to tune on.
    """
    costs = method.exit_costs()
    if costs is None or validation is None:
        return None
    names = [*(f"exit{number}" for number in range(1, len(costs))), "student"]
    tuning, testing = (torch.stack([made.logits[name] for name in names]) for made in (validation, test))
    thresholds = tune_thresholds(tuning, validation.labels, costs)
    return {"thresholds": thresholds, **score_exits(testing, test.labels, costs, thresholds)._asdict()}


def unfinished(history: list[dict[str, float]], epochs: int) -> list[str]:
    """A note where a run ended before its last epoch."""
    if len(history) == epochs:
        return []
    return [f"stopped after {len(history)} of {epochs} epochs; --resume true goes on with it"]


def picture(split: Split, row: int, card: StudentCard) -> np.ndarray:
    """One image of a split as the network gets it but for the normalisation, [H, W, C] uint8."""
    if split.images is not None:
        return split.images[row].numpy()
    assert split.paths is not None  # one or the other
    return read(split.paths[row], card).numpy()
