"""Lightning's loggers by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from classmates.errors import UserError, unknown


def make_loggers(names: Sequence[str], folder: Path, run_name: str) -> list[Logger]:
    """Make the loggers of a run; metrics.csv is written without them.

    Raises:
        UserError: an unknown name, or one whose package is not installed.
    """
    made: list[Logger] = []
    for name in names:
        if name == "tensorboard":
            made.append(TensorBoardLogger(folder, name="", version="tensorboard"))
        elif name == "wandb":
            try:
                made.append(WandbLogger(name=run_name, save_dir=folder, project="classmates"))
            except ModuleNotFoundError as error:
                raise UserError("loggers=wandb: it is not installed: pip install 'classmates[wandb]'") from error
        else:
            raise unknown("logger", name, ("tensorboard", "wandb"))
    return made
