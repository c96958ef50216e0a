"""What notices at once that another process of a training has ended."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Mapping

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed

from classmates._signals import GRACE, how_it_ended
from classmates.errors import UserError


class RankWatch(Callback):
    """Notices at once when another process of the training on this machine ends, and which one.

    A process that waits for a lost one may wait for as long as its connection does, half an hour: where it has not
    ended by itself ``GRACE`` seconds later, it is ended with the same words. Linux tells of the end of any process
    (``pidfd``), however it ends; of processes elsewhere only the connection's errors tell.
    """

    def __init__(self) -> None:
        self.lost = "another one, which has ended or hangs"
        self.noticed, self.over = threading.Event(), threading.Event()

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Begin, as soon as the processes know each other."""
        if trainer.world_size == 1:
            return
        everyone: list[tuple[str, int]] = [("", 0)] * trainer.world_size
        distributed.all_gather_object(everyone, (socket.gethostname(), os.getpid()))
        watched = {
            descriptor: rank
            for rank, (host, number) in enumerate(everyone)
            if host == socket.gethostname() and rank != trainer.global_rank and (descriptor := open_process(number))
        }
        threading.Thread(target=self._watch, args=(watched, trainer), daemon=True).start()

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """End, when all have come to the end of the training; from then on each may end when it likes."""
        if trainer.world_size > 1:
            trainer.strategy.barrier()
        self.over.set()

    def told(self) -> str:
        """Return who is lost, in a sentence; the connection may have broken a moment before it is known."""
        self.noticed.wait(1)
        return (
            f"process {distributed.get_rank()} of {distributed.get_world_size()} has lost {self.lost}; its own last "
            "words say why. When that is mended, go on with --resume true"
        )

    def _watch(self, watched: Mapping[int, int], trainer: L.Trainer) -> None:
        poll = select.poll()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        ended: list[tuple[int, int]] = []
        while not (ended or self.over.is_set()):
            ended = poll.poll(1000)
        if ended:
            first = ended[0][0]
            self.lost = f"process {watched[first]}, which {how_child_ended(first)}"
            self.noticed.set()
            spare(trainer)
        for descriptor in watched:
            os.close(descriptor)
        if ended and not self.over.wait(GRACE):
            print(self.told(), file=sys.stderr, flush=True)
            os._exit(UserError.exit_code)


def open_process(number: int) -> int | None:
    """Return a descriptor that is ready to be read when a process has ended; None where there are none."""
    try:
        return os.pidfd_open(number)
    except (AttributeError, OSError):  # not Linux, an old kernel, or another container's number
        return None


def how_child_ended(descriptor: int) -> str:
    """Return how a process ended, if it is a child of this one; that it has, if not."""
    try:
        found = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return "has ended"
    if found is None:
        return "has ended"
    return how_it_ended(found.si_status if found.si_code == os.CLD_EXITED else -found.si_status)


def spare(trainer: L.Trainer) -> None:
    """Keep Lightning from killing this process without a word: it does so within 5 s of the end of a child."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.procs.clear()
