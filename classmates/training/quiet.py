"""What Lightning says of itself, of machines without a GPU and of what may be wrong but is meant, left out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.warnings import PossibleUserWarning

from classmates._progress import saying

LOGGERS = ("lightning.pytorch", "lightning.fabric")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Leave it out within the block, unless it is asked for; afterwards all is as it was."""
    if saying().libraries:
        yield
        return
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in LOGGERS}
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")
            yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)
