"""Memory banks: every peer's last embedding of every training sample (MCL-OKD, §3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classmates._memory import require_memory
from classmates.errors import UserError
from classmates.networks.memory.gather import from_first, gather, last_occurrence


class MemoryBank(nn.Module):
    """One embedding of each training sample for each peer, refreshed in place whenever the sample is seen.

    The rows are part of the ``state_dict``, so that training goes on where it stopped. They start as random unit
    vectors; the released code starts from U(−√(3/d), √(3/d)), of unit length only on average, until the first write.
    An empty bank starts as zeros instead, which tell what was never written and leave no trace in the first write.

    Under ``torch.distributed`` every process holds all rows and learns of every other's batch in ``write``. The first
    write begins with the rows of the first process, so from then on the banks are equal, and nothing of them but the
    batches' embeddings is ever sent.

    Args:
        peers: M, at least 1.
        samples: N, the size of the training set.
        dimension: d, the size of an embedding.
        momentum: how much of the old row stays in the new one; 0.5 in the paper.
        dtype: of the rows; ``torch.bfloat16`` halves memory and traffic.
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
        size = peers * samples * dimension * torch.float32.itemsize
        require_memory(f"dimension={dimension}", f"the embeddings of {samples:,} samples by {peers} peers", size)
        self.momentum = momentum
        self.equal = False  # on all processes
        shape = (peers, samples, dimension)
        start = torch.zeros(shape) if empty else F.normalize(torch.randn(shape), dim=-1)
        self.register_buffer("rows", start.to(dtype))

    @property
    def written(self) -> Tensor:
        """Which samples' rows of an empty bank have been written, [N]; all peers' are at once."""
        return self.rows[0].any(dim=-1)

    def read(self, indices: Tensor) -> Tensor:
        """Return a copy of the rows of samples ``indices`` [B]: [M, B, d], in the bank's dtype."""
        return self.rows.index_select(1, indices)

    @torch.no_grad()
    def write(self, indices: Tensor, embeddings: Tensor) -> None:
        """Set each row to normalise(momentum·row + (1 − momentum)·embedding), for all processes' batches.

        A sample that comes more than once is updated once, with its last embedding; the batches of several
        processes stand in the order of their ranks.

        Args:
            indices: [B], which samples; as many on every process.
            embeddings: [M, B, d], unit vectors, any floating dtype.

        Raises:
            ValueError: the shapes do not match.
        """
        peers, _, dimension = self.rows.shape
        if embeddings.shape != (peers, *indices.shape, dimension):
            raise ValueError(
                f"embeddings {tuple(embeddings.shape)} for indices {tuple(indices.shape)} must be "
                f"[{peers}, {len(indices)}, {dimension}]: peers, batch, dimension"
            )
        if not self.equal:
            from_first(self.rows)
            self.equal = True
        indices, embeddings = gather(indices), gather(embeddings, dim=1)
        embeddings = embeddings[:, last_occurrence(indices)]
        self.rows.index_copy_(1, indices, refreshed(self.read(indices), embeddings, self.momentum))


def refreshed(rows: Tensor, embeddings: Tensor, momentum: float) -> Tensor:
    """Return normalise(momentum·row + (1 − momentum)·embedding), computed in float32, in the rows' dtype."""
    updated = momentum * rows.float() + (1 - momentum) * embeddings.float()
    return F.normalize(updated, dim=-1).to(rows.dtype)


def check_bank(peers: int, samples: int, dimension: int, momentum: float) -> None:
    """Raise UserError for a bank without rows, or a momentum outside [0, 1)."""
    if min(peers, samples, dimension) < 1:
        raise UserError(f"a memory bank of {peers} peers x {samples} samples x {dimension} dimensions has no rows")
    if not 0 <= momentum < 1:
        raise UserError(f"the memory bank's momentum is {momentum}; it must be at least 0 and below 1")
