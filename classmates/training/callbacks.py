"""Callbacks of every run: its table of epochs and a line on progress, its checkpoints, and what ends it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer

from classmates._csv import as_csv
from classmates._files import write_text
from classmates._machine import wait_for
from classmates._progress import Status, columns, note
from classmates._time_limit import time_limit
from classmates.runs.folder import RunFolder
from classmates.tasks.protocol import Protocol
from classmates.training.checkpoints import EpochCheckpoint, StepCheckpoint
from classmates.training.module import TrainingModule

WAITING_SHOWN = 0.1
"""The share of an epoch spent on waiting for images above which the progress line says it."""
WAITING_TOLD = 0.2
"""Above this share, and at least so many seconds, the first epoch ends with a note on what would help."""
WAITING_TOLD_SECONDS = 2.0
ROOMY = 100
"""From this many columns on the progress line also says how fast it goes."""


def watchers(
    run: RunFolder,
    protocol: Protocol,
    *,
    validates: bool,
    checkpoint_steps: int | None,
    max_time: str | None,
    patience: int | None = None,
) -> Iterable[Callback]:
    """Make the table of epochs, the progress, the checkpoints (the last state, and the one whose student was best on
    validation images by the protocol's headline), the time limit and the stop on validation scores."""
    history = History(run.metrics, run.settings)
    yield history
    yield Progress(history)
    # The real path: Lightning takes ~ at the beginning for a home folder and :: for a chain of file systems.
    folder = os.path.realpath(run.checkpoints)
    last = partial(EpochCheckpoint, folder, enable_version_counter=False, save_on_train_epoch_end=True)
    if validates:
        yield last(filename=run.best.stem, monitor=protocol.monitored, mode=protocol.mode)
    yield last(filename=run.last.stem)
    if checkpoint_steps is not None:
        yield StepCheckpoint(run.last, checkpoint_steps)
    if max_time is not None:
        yield TimeLimit(max_time)
    if patience is not None:
        yield EarlyStopping(protocol.monitored, patience=patience, mode=protocol.mode, check_finite=False)


class History(Callback):
    """One row an epoch: every term raw and weighted, validation scores of every network, learning rate, speed.

    ``lr`` is the highest of the rates of the epoch's last step.
    ``seconds`` are those of the epoch's training alone, ``data_seconds`` those of them that it waited for images.

    The rows, and what there is of the next one, travel in the checkpoints, so a run that goes on continues its own
    table, and ``metrics.csv`` is rewritten whole after every epoch. Loggers get the rows and the run's settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.settings = settings
        self.rows: list[dict[str, float]] = []
        self.images = 0
        self.seconds = self.data_seconds = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self._read_clock(module)
        for logger in trainer.loggers:
            logger.log_hyperparams(dict(self.settings))

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self._read_clock(module)
        self.images = 0
        self.seconds = self.data_seconds = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, i: int) -> None:
        self.lr = max(group["lr"] for group in trainer.optimizers[0].param_groups)  # schedules go on before the end

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        self.images += len(batch.labels) * trainer.world_size
        if trainer.is_last_batch:
            wait_for(module.device)  # a GPU is given its steps long before it has taken them
        clock, waited = self.clock, self.waited
        self._read_clock(module)
        self.seconds += self.clock - clock
        self.data_seconds += self.waited - waited

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": self.lr}
        means = module.meter.means()
        row["train/total"] = means.pop("total")
        for name, value in means.items():
            row[f"train/{name}"] = value
            row[f"train/{name}/weighted"] = value * module.method.weight(name)
        for who, scores in module.validation.items():
            row |= {f"val/{who}/{metric}": value for metric, value in scores.items()}
        speed = self.images / self.seconds
        row |= {"seconds": self.seconds, "data_seconds": self.data_seconds, "images_per_second": speed}
        self.rows.append(row)
        for logger in trainer.loggers:
            logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=trainer.global_step)
        if trainer.is_global_zero:
            write_text(self.path, as_csv(pd.DataFrame(self.rows)))
            if (
                trainer.current_epoch == 0
                and self.waiting > WAITING_TOLD
                and self.data_seconds > WAITING_TOLD_SECONDS
            ):
                share = f"{self.waiting:.0%} of the first epoch was spent waiting for images ({speed:,.0f} images/s)"
                note(f"{share}; what helps: {module.train_loader.advice}")

    @property
    def waiting(self) -> float:
        """The share of the last epoch's training time that was spent waiting for images."""
        return self.data_seconds / self.seconds

    def _read_clock(self, module: TrainingModule) -> None:
        self.clock, self.waited = time.perf_counter(), module.train_loader.waited

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("rows", "images", "seconds", "data_seconds")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Progress(Callback):
    """One line over all epochs: epoch, loss, validation score and time left, and what else there is room for.

    history: comes before it among the trainer's callbacks.
    """

    status: Status | None = None

    def __init__(self, history: History):
        self.history = history
        self.said = ""
        """What there is to say of the last whole epoch."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        steps = int(trainer.num_training_batches)
        form = "{desc}  {remaining} left |{bar}|"
        begun = trainer.current_epoch * steps
        total = steps * (trainer.max_epochs or 1)
        if begun < total:
            self.status = Status(self._text(trainer), total, begun, shown=trainer.is_global_zero, form=form)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert self.status is not None  # made before the first epoch
        self.status.describe(self._text(trainer))

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        assert self.status is not None  # made before the first step
        self.status.advance()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        said = f"  loss {module.meter.means()['total']:.3f}"
        if module.validation:
            how, headline = module.protocol.record.main, module.protocol.headline
            said += f"  val {how.title} {how.text(module.validation['student'][headline])}"
        if columns() >= ROOMY:
            said += f"  {self.history.rows[-1]['images_per_second']:,.0f} images/s"
            if self.history.waiting > WAITING_SHOWN:
                said += f"  {self.history.waiting:.0%} waiting for images"
        self.said = said
        assert self.status is not None  # as above
        self.status.describe(self._text(trainer))

    def _text(self, trainer: L.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{self.said}"

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.status is not None:
            self.status.close()


class Notes(Callback):
    """What was decided for a run, kept in its checkpoints.

    A run that goes on by its ``config.yaml`` finds nothing left to decide, and its result still says what was.
    """

    def __init__(self, texts: Iterable[str]):
        self.texts = list(texts)

    def state_dict(self) -> dict[str, Any]:
        return {"texts": self.texts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.texts = list(dict.fromkeys([*state["texts"], *self.texts]))


class TimeLimit(Timer):
    """A stop at the end of the first epoch after a time (2h, DD:HH:MM:SS); a run that goes on has as much time again.

    At the ends of epochs: Lightning would take an epoch cut off in the middle for a whole one, in resuming too.

    Raises:
        UserError: another form, or no time.
    """

    def __init__(self, limit: str):
        super().__init__(time_limit(limit), interval="epoch")

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the limit is for one call, and Lightning would add the time of those before."""
        return {}
