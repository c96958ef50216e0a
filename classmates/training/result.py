"""The end of a run: the one pass over the test set, the student, and the record with everything that was found."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from torch import nn

from classmates._files import whole_file, write_text
from classmates._shown import Shown
from classmates._text import filled
from classmates.data.batches.loaders import eval_loader
from classmates.data.loading import ImageData, Split
from classmates.errors import NonFiniteLoss, UserError
from classmates.evaluation.by_image import pictured
from classmates.evaluation.collect import Predictions, as_arrays
from classmates.methods.base import Method
from classmates.networks.building.complexity import count_parameters, multiply_adds
from classmates.runs.exits import save_exits
from classmates.runs.folder import RunFolder
from classmates.runs.record import EpochScores, Kept, RunRecord, StudentSize, TrainingCost, Validation
from classmates.runs.student import StudentCard, save_student, with_findings
from classmates.tasks.protocol import Protocol, Scores
from classmates.training.callbacks import History, Notes
from classmates.training.environment import environment, peak_memory_mib
from classmates.training.health import examine
from classmates.training.module import TrainingModule, stopped_early
from classmates.training.same_images import SameImages
from classmates.training.scoring import (
    BestEpoch,
    best_epoch,
    early_exits,
    predict_all,
    score_all,
)

Kind = TypeVar("Kind", bound=Callback)


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """The result of ``train``.

    student: the trained network, plain and in evaluation mode. method: all that was trained, for those that can do
    more at inference (the exits of SD). test: the scores after the last epoch by network (student, peer1, ensemble),
    as in ``test["student"]["top1"].value``. folder: where everything is. record: what ``result.json`` holds; None,
    as ``test`` is empty, on all but the first process of a distributed run.
    """

    student: nn.Module
    method: Method
    test: dict[str, Scores]
    folder: Path
    record: RunRecord | None

    def __str__(self) -> str:
        if self.record is None:
            return ""
        training, exits = self.record.training, self.record.exits
        whole = training.epochs == self.record.epochs or self.record.stopped_early
        epochs = f"{training.epochs} epochs" if whole else f"{training.epochs} of {self.record.epochs} epochs"
        lines = [f"{self.record.name}: {epochs} in {training.seconds:.0f} s", ""]
        if self.record.warnings:
            lines += [
                *(part for warning in self.record.warnings for part in filled(f"WARNING: {warning}", indent="")),
                "",
            ]
        if self.test:
            best = self.record.validation if self.record.kept == "best" else None
            where = "test" if best is None else f"test, epoch {best.best.epoch}"
            lines.append(self.record.protocol.table(where, self.test))
            if self.record.test_last:
                lines += ["", self.record.protocol.table(f"test, epoch {training.epochs}", self.record.test_last)]
        elif (held_out := self.record.validated) is not None:
            where = "validation" if self.record.kept == "last" else f"validation, epoch {held_out.epoch}"
            lines.append(self.record.protocol.table(where, held_out.scores))
        if exits is not None:
            lines += ["", f"answering early: {exits.accuracy:.2%} at {exits.cost:.0%} of the student's compute"]
        deploy = "The student, not worth deploying:" if self.record.useless else "The student is what you deploy:"
        lines += ["", f"{deploy} {self.folder / 'student.safetensors'}"]
        if (self.folder / "report.html").exists():
            lines += [f"The report, for a browser:      {self.folder / 'report.html'}"]
        return "\n".join(lines)


def finish(
    run: RunFolder,
    trainer: L.Trainer,
    module: TrainingModule,
    images: ImageData,
    card: StudentCard,
    *,
    test: bool,
) -> Result:
    """Write the student, score all networks on the test set, once, and write the record; on the first process only.

    test: whether the test images are looked at; where not, the record holds validation scores alone.

    Raises:
        NonFiniteLoss: networks that cannot be scored; the student is on disk.
    """
    method, device = module.method, trainer.strategy.root_device
    memory = peak_memory_mib(device)
    if not trainer.is_global_zero:
        return Result(method.student().eval(), method, {}, run.folder, None)
    kept = best_epoch(run, module, device) if run.settings["keep"] == "best" else None
    with kept.loaded(method) if kept is not None else nullcontext():
        card = with_findings(run.folder, method.student(), card)
        save_student(run.folder, method.student(), card)  # first: from here on the training is not lost
        exits = method.exits()
        if exits is not None and card.output == "logits":  # without classes there is nothing to be sure of
            save_exits(run.folder, exits)
    best = best_epoch(run, module, device) if kept is None and images.val is not None else kept
    try:
        record = score_run(run, trainer, module, images, card, memory, best, test=test)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise NonFiniteLoss(
            f"training has ended and its student is in '{run.folder}', but it cannot be scored: {error}. "
            "A lower --lr, --gradient_clip 1 or --precision 32-true may help"
        ) from error
    if kept is not None:
        kept.load_into(method)
    method.cpu()
    return Result(method.student().eval(), method, record.test, run.folder, record)


def score_run(
    run: RunFolder,
    trainer: L.Trainer,
    module: TrainingModule,
    images: ImageData,
    card: StudentCard,
    memory: float,
    best: BestEpoch | None,
    *,
    test: bool,
) -> RunRecord:
    """Score all networks, and write ``evaluation.npz`` and ``result.json``."""
    method, device = module.method, trainer.strategy.root_device
    batch_size, num_workers = run.settings["batch_size"], run.settings["num_workers"]  # what is known to fit

    def predictions_of(split: Split, description: str) -> Predictions:
        batches = eval_loader(images, split, batch_size, num_workers=num_workers, device=device)
        predictions = predict_all(module, batches, device, description)
        return replace(predictions, split=split)

    after_last = tested = predictions_of(images.test, "test") if test else None
    held_out = None if images.val is None else predictions_of(images.val, "validation")
    keep: Kept = run.settings["keep"]
    validation = None
    if images.val is not None and held_out is not None and best is not None:
        last = EpochScores(trainer.current_epoch, score_all(module.protocol, held_out))
        with best.loaded(method):
            of_best = predictions_of(images.val, "validation")
            if keep == "best":
                held_out = of_best
                tested = predictions_of(images.test, "test") if test else None
        validation = Validation(last, EpochScores(best.number, score_all(module.protocol, of_best)))
    kept_last = keep == "last" or (best is not None and best.number == trainer.current_epoch)
    history = callback_of(trainer, History).rows
    early = stopped_early(trainer)
    record = RunRecord(
        name=run.name,
        method=type(method).__name__,
        model=run.settings["model"],
        data=images.name,
        seed=run.settings["seed"],
        epochs=run.settings["epochs"],
        finished=datetime.now(UTC),  # to the microsecond: the newest of several quick runs is asked for
        protocol=module.protocol.record,
        test={} if tested is None else score_all(module.protocol, tested),
        validation=validation,
        exits=None if tested is None else early_exits(method, held_out, tested),
        training=training_cost(history, trainer.global_step, memory),
        student=student_size(method.student(), images.input_shape),
        training_parameters=count_parameters(method),
        train_images=len(images.train.labels),
        notes=callback_of(trainer, Notes).texts,
        warnings=[] if early else unfinished(len(history), run.settings["epochs"]),
        environment=dict(environment(device)),
        config=run.settings,
        stopped_early=early,
        kept=keep,
        test_last=score_all(module.protocol, after_last) if after_last is not None and not kept_last else {},
        drawn={} if tested is None else drawn(module.protocol, tested),
        images=callback_of(trainer, SameImages).splits,
    )
    record = with_warnings(record, history, module, images)
    if tested is not None:
        save_evaluation(run, module, images, card, tested)
    write_text(run.result, record.to_json())
    tests = {f"test/{who}/{name}": metric.value for who, of in record.test.items() for name, metric in of.items()}
    for logger in trainer.loggers if tests else []:
        logger.log_metrics(tests, step=trainer.global_step)
    return record


def callback_of(trainer: L.Trainer, kind: type[Kind]) -> Kind:
    """Return the trainer's callback of a class."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))  # type: ignore[attr-defined]


def with_warnings(
    record: RunRecord, history: list[dict[str, float]], module: TrainingModule, images: ImageData
) -> RunRecord:
    """Return the record with what its own numbers say against the student."""
    split, scores = images.test, record.test
    held_out = record.validated
    if not scores and held_out is not None and images.val is not None:
        split, scores = images.val, held_out.scores
    if not scores:
        return record
    student = scores["student"][record.protocol.headline]
    chance = module.protocol.chance(split.labels)
    health = examine(history, student, chance, record.protocol, module.meter.without_gradient)
    return replace(record, warnings=[*record.warnings, *health.warnings], useless=health.useless)


def drawn(protocol: Protocol, tested: Predictions) -> dict[str, str]:
    """Return the hash of what the protocol drew to judge by on the test images; empty where it draws nothing."""
    found = protocol.fingerprint(tested.labels)
    return {} if found is None else {"test": found}


def student_size(student: nn.Module, input_shape: tuple[int, int, int]) -> StudentSize:
    """Return the number of parameters and of multiply-adds for an image."""
    return StudentSize(count_parameters(student), multiply_adds(student, input_shape))


def training_cost(history: list[dict[str, float]], steps: int, memory: float) -> TrainingCost:
    """Return what the epochs took, without validation."""
    seconds = sum(row["seconds"] for row in history)
    images_per_second = sum(row["images_per_second"] * row["seconds"] for row in history) / seconds
    return TrainingCost(len(history), steps, seconds, images_per_second, memory)


def save_evaluation(
    run: RunFolder, module: TrainingModule, images: ImageData, card: StudentCard, predictions: Predictions
) -> None:
    """Write ``evaluation.npz``: predictions and features, and the pictures that the protocol chooses for a report."""
    shown = pictured(predictions.logits["student"], images.test, module.protocol, card)
    stages = [stage.name for stage in module.method.networks.architecture.stages]
    arrays = as_arrays(predictions, module.protocol, images.test.class_names, shown, stages)
    with whole_file(run.evaluation) as path, path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def unfinished(trained: int, epochs: int) -> list[str]:
    """Return a warning where a run ended before its last epoch."""
    if trained == epochs:
        return []
    return [
        f"stopped after {trained} of {epochs} epochs, over which the learning rate was to fall: the network is not "
        "finished; --resume true goes on with it"
    ]
