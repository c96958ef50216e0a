"""Lightning's loggers by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from classmates.errors import UserError, unknown

LOGGERS: dict[str, Callable[[Path, str], Logger]] = {
    "tensorboard": lambda folder, _: TensorBoardLogger(folder, name="", version="tensorboard"),
    "wandb": lambda folder, run_name: WandbLogger(name=run_name, save_dir=folder, project="classmates"),
}
"""What makes a logger of a run's folder and name. Each needs the package's extra of the same name."""


def make_loggers(names: Sequence[str], folder: Path, run_name: str) -> list[Logger]:
    """Make the loggers of a run; metrics.csv is written without them.

    Raises:
        UserError: an unknown name, or one whose package is not installed.
    """
    made = []
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        try:
            made.append(LOGGERS[name](folder, run_name))
        except ModuleNotFoundError as error:
            raise UserError(f"loggers={name}: it is not installed: pip install 'classmates[{name}]'") from error
    return made
