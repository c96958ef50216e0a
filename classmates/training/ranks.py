"""The processes of one training: what is said when one of them is lost, and which ways of starting them work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import distributed
from torch.distributed import DistError

from classmates.errors import UserError


@contextmanager
def told_of_lost_ranks() -> Iterator[None]:
    """Say in a sentence that another process of the training has ended, in place of what its connection says.

    Raises:
        UserError: while processes waited for each other, the connection to one of them broke or timed out.
    """
    try:
        yield
    except RuntimeError as error:
        # Gloo has no type of its own for its errors, which name its source files.
        if distributed.is_initialized() and (isinstance(error, DistError) or "gloo" in str(error).lower()):
            raise UserError(
                f"process {distributed.get_rank()} of {distributed.get_world_size()} has lost another one, which has "
                "ended or hangs; its own last words say why. When that is mended, go on with --resume true"
            ) from error
        raise


def check_strategy(trainer: L.Trainer, strategy: str) -> None:
    """Raise UserError for a strategy whose processes are forked or spawned: what they train is lost with them."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            f"strategy '{strategy}' starts its processes by fork or spawn, from which no network comes back: take ddp"
        )
