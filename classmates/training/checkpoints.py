"""Checkpoints of a run: whole or not there, read without running any code in them, in a folder that may move."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from classmates._files import whole_file
from classmates.errors import UserError, first_line
from classmates.runs.folder import RunFolder
from classmates.training.module import TrainingModule

IN_CHECKPOINT = (
    "pytorch-lightning_version",
    "state_dict",
    "epoch",
    "global_step",
    "optimizer_states",
    "lr_schedulers",
    "callbacks",
    "loops",
    "terms",
)
"""What a run goes on from, by Lightning's names and our own."""


class EpochCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint of an epoch, the last or the best so far, in a folder that may have moved meanwhile.

    Lightning takes another path for another folder, and forgets which epoch was the best: the first one after the
    move would be. Here the files of the state are those of the same name where the run is now.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.dirpath is not None
        paths = {name: self._here(state_dict.get(name, "")) for name in PATHS}
        best = {self._here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name) if path else path


PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""What of Lightning's state is the path of a checkpoint."""


class StepCheckpoint(Checkpoint):
    """A checkpoint of the state at ``path`` every so many ``steps``, between the checkpoints of whole epochs.

    The last step of an epoch is left to the checkpoint that comes after its validation. Between the batches of one
    step nothing is kept: a checkpoint has no gradients.
    """

    def __init__(self, path: Path, steps: int):
        self.path = path
        self.steps = steps
        self.step = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        stepped, self.step = trainer.global_step != self.step, trainer.global_step
        if stepped and self.step % self.steps == 0 and i + 1 < trainer.num_training_batches:
            module.check()  # before the last good checkpoint is replaced
            trainer.save_checkpoint(self.path)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all, and are read without running any code that may be in them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            with whole_file(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            kept = Path(path).with_name("last.ckpt").is_file()
            fix = "the one before it is whole: make space and go on with --resume true"
            none = "there is none before it: make space and start anew"
            raise UserError(
                f"the checkpoint '{path}' could not be written ({first_line(error)}); {fix if kept else none}"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path), map_location)


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read tensors and plain values of a checkpoint; UserError where it is damaged or holds what runs code."""
    try:
        checkpoint = torch.load(io.BytesIO(path.read_bytes()), map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint '{path}': the run cannot go on; start it anew") from error
    except Exception as error:  # whatever a damaged file makes the unpickler do
        raise UserError(
            f"the checkpoint '{path}' is damaged or holds foreign code, and was not loaded: {first_line(error)}"
        ) from error
    missing = [key for key in IN_CHECKPOINT if not isinstance(checkpoint, Mapping) or key not in checkpoint]
    if missing:
        raise UserError(f"'{path}' is no checkpoint of a training run: it lacks {', '.join(missing)}")
    return dict(checkpoint)


def require_whole(run: RunFolder) -> None:
    """Raise UserError where a run's last checkpoint is damaged, or where that of its best epoch is not there.

    The last one says whether there has been a best epoch; its weights are scored at the end of the run.
    """
    states = load_checkpoint(run.last).get("callbacks", {})
    if any(state.get("monitor") and state.get("best_model_path") for state in states.values()):
        load_checkpoint(run.best)
