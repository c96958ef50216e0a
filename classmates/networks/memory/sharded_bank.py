"""Memory banks of which each process owns a part of the rows: what a GPU holds falls with the number of GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classmates._memory import require_memory
from classmates.errors import UserError
from classmates.networks.memory.gather import gather_to_first, last_occurrence, place
from classmates.networks.memory.memory_bank import check_bank, refreshed

AT_ONCE = 2**16  # rows that are drawn or gathered at a time, of all processes; a multiple of 16


class ShardedBank(nn.Module):
    """Every peer's last embedding of every training sample, sample i's kept by process i mod G, as its row i // G.

    Rows, start and momentum are those of ``MemoryBank``; it depends on G only where they lie. The rows are made at
    the first use, when it is known how many processes there are.

    The ``state_dict`` of one process of several has its own rows, under a name that says which: ``shard0of2``. With
    ``whole_state`` (``networks/memory/gather.py``), as in the checkpoints of a training, it has all of them as a
    ``MemoryBank`` has, and any number of processes goes on from it.

    Args:
        peers: M, at least 1.
        samples: N, the size of the training set.
        dimension: d, the size of an embedding.
        momentum: how much of the old row stays in the new one.
        dtype: of the rows.
        empty: whether rows are zeros until they are written.

    Raises:
        UserError: a size below 1; momentum outside [0, 1).
    """

    local_buffers = ("rows",)
    rows: Tensor

    def __init__(
        self,
        peers: int,
        samples: int,
        dimension: int,
        *,
        momentum: float = 0.5,
        dtype: torch.dtype = torch.float32,
        empty: bool = False,
    ) -> None:
        super().__init__()
        check_bank(peers, samples, dimension, momentum)
        self.shape = (peers, samples, dimension)
        self.momentum = momentum
        self.empty = empty
        self.place: tuple[int, int] | None = None  # rank and number of processes that the rows are for
        self.start = torch.get_rng_state()
        if not empty:
            for _ in random_rows(self.shape):  # so that what comes after is drawn as with a whole bank
                pass
        self.register_buffer("rows", torch.empty(peers, 0, dimension, dtype=dtype))

    @property
    def written(self) -> Tensor:
        """Which of the own rows of an empty bank have been written, [n]."""
        return self.rows[0].any(dim=-1)

    def open(self) -> None:
        """Make this process's rows, unless they are there; a bank of one process becomes a share of it.

        Raises:
            UserError: there are more processes than samples, or other processes than those the rows are of.
        """
        here = place()
        if self.place == here:
            return
        if self.place is None:
            self._allocate()
            if not self.empty:
                self._draw()
        elif self._where[1] == 1:
            whole = self.rows
            self._allocate()
            self.rows.copy_(whole[:, here[0] :: here[1]])
        else:
            raise UserError(
                f"bank=sharded: its rows are those of process {self.place[0]} of {self.place[1]}, and this is "
                f"process {here[0]} of {here[1]}: start anew and load a checkpoint"
            )

    def fetch(self, indices: Tensor) -> Tensor:
        """Return the rows of those samples [A] that this process owns, zeros for others, [M, A, d], float32.

        Added over the processes they are the rows of all.
        """
        own, local = self._local(indices)
        return torch.where(own[:, None], self.rows.index_select(1, local), 0).float()

    @torch.no_grad()
    def write(self, indices: Tensor, embeddings: Tensor) -> None:
        """Update those rows that this process owns, as ``MemoryBank.write`` does, from the batches of all processes.

        Args:
            indices: [A], which samples, of all processes in the order of their ranks.
            embeddings: [M, A, d], unit vectors, any floating dtype.
        """
        own, local = self._local(indices)
        # The shapes must not depend on which samples are this process's: in the places of others it writes an own one
        # once more or, where it has none of the batch, what is there already.
        chosen = torch.where(own, torch.arange(len(indices), device=indices.device), own.to(torch.int64).argmax())
        places = local[chosen]
        old = self.rows.index_select(1, places)
        new = refreshed(old, embeddings[:, last_occurrence(indices)[chosen]], self.momentum)
        self.rows.index_copy_(1, places, torch.where(own[chosen, None], new, old))

    def to_whole(self, state: dict[str, Any], prefix: str) -> None:
        """Put all rows, on the CPU, where this process's are, on the first process; all take part."""
        if prefix + "rows" in state:  # of one process
            return
        rank, processes = self._where
        del state[prefix + self._name]
        peers, samples, dimension = self.shape
        whole = torch.empty(self.shape if rank == 0 else (peers, 0, dimension), dtype=self.rows.dtype)
        count = max(1, AT_ONCE // processes)
        for first in range(0, -(-samples // processes), count):
            for shard, rows in enumerate(gather_to_first(self._padded(first, count))):
                into = whole[:, first * processes + shard : (first + count) * processes : processes]
                into.copy_(rows[:, : into.shape[1]])
        state[prefix + "rows"] = whole

    def to_own(self, state: dict[str, Any], prefix: str) -> None:
        """Put this process's rows where all rows of a bank are, if they are there."""
        whole = state.get(prefix + "rows")
        if whole is None or tuple(whole.shape) != self.shape:
            return
        if self.place is None or (self.place[1] == 1 and self.place != place()):
            self._allocate()
        rank, processes = self._where
        del state[prefix + "rows"]
        state[prefix + self._name] = whole[:, rank::processes]

    def _allocate(self) -> None:
        peers, samples, dimension = self.shape
        rank, processes = here = place()
        if processes > samples:
            raise UserError(f"bank=sharded: {samples} samples are too few for {processes} processes: take bank=whole")
        own = len(range(rank, samples, processes))
        size = peers * own * dimension * self.rows.dtype.itemsize
        require_memory("bank=sharded", f"this process's embeddings of {own:,} samples by {peers} peers", size)
        self.rows = self.rows.new_zeros(peers, own, dimension)
        self.place = here

    def _draw(self) -> None:
        rank, processes = self._where
        samples = self.shape[1]
        with torch.random.fork_rng([]):
            torch.set_rng_state(self.start)
            for first, drawn in random_rows(self.shape):
                numbers = torch.arange(first, first + len(drawn))
                own = numbers % samples % processes == rank
                peer, place_in_shard = numbers[own] // samples, numbers[own] % samples // processes
                device = self.rows.device
                rows = F.normalize(drawn, dim=-1)[own].to(self.rows)
                self.rows[peer.to(device), place_in_shard.to(device)] = rows

    @property
    def _where(self) -> tuple[int, int]:
        assert self.place is not None  # after open()
        return self.place

    @property
    def _name(self) -> str:
        rank, processes = self._where
        return "rows" if processes == 1 else f"shard{rank}of{processes}"

    def _local(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return which of the samples are this process's, and where; somewhere within the rows if they are not."""
        rank, processes = self._where
        own = indices % processes == rank
        return own, (indices // processes).clamp(max=self.rows.shape[1] - 1)

    def _padded(self, first: int, count: int) -> Tensor:
        """Return ``count`` rows from ``first`` on, or as many as the largest shard has; zeros for one it lacks."""
        count = min(count, -(-self.shape[1] // self._where[1]) - first)
        rows = self.rows[:, first : first + count]
        return F.pad(rows, (0, 0, 0, count - rows.shape[1]))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.place is None:
            self.open()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + self._name] = destination.pop(prefix + "rows")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        found = dict(state_dict)
        self.to_own(found, prefix)
        if self.place is None:
            self.open()
        if self._name != "rows" and prefix + self._name in found:
            found[prefix + "rows"] = found.pop(prefix + self._name)
        super()._load_from_state_dict(found, prefix, *others)


def random_rows(shape: tuple[int, int, int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the rows of ``torch.randn(peers, samples, dimension)`` in pieces, each with the number of its first row.

    They are the same numbers, to the last bit: ``torch.randn`` draws 16 at a time, and the last 16 anew where the
    size is no multiple of 16.
    """
    peers, samples, dimension = shape
    rows, first = peers * samples, 0
    while first < rows:
        left = rows - first
        count = AT_ONCE if (left - AT_ONCE) * dimension >= 16 else left
        yield first, torch.randn(count, dimension)
        first += count
