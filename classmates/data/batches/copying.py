"""Batches on their way to a GPU: each is copied while the step before it computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor


def on_device(batches: Iterable[Sequence[Tensor]], device: torch.device) -> Iterator[list[Tensor]]:
    """Yield batches on a device; to a GPU they are copied one ahead, beside its computation.

    The copies have a CUDA stream of their own, on which they wait for nothing that is computed; what computes waits
    for its own batch alone. The host waits for neither, where the batches lie in pinned memory.

    Args:
        batches: the tensors of each batch.
        device: where they are wanted.
    """
    if device.type != "cuda":
        yield from ([tensor.to(device) for tensor in batch] for batch in batches)
        return
    copying = torch.cuda.Stream(device)
    ahead: tuple[list[Tensor], torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(copying):
            copied = [tensor.to(device, non_blocking=True) for tensor in batch]
        current, ahead = ahead, (copied, copying.record_event())
        if current is not None:
            yield arrived(*current)
    if ahead is not None:
        yield arrived(*ahead)


def arrived(tensors: list[Tensor], copied: torch.cuda.Event) -> list[Tensor]:
    """Return tensors for use on the present stream, which waits until they are copied."""
    computing = torch.cuda.current_stream(tensors[0].device)
    computing.wait_event(copied)
    for tensor in tensors:
        tensor.record_stream(computing)  # or their memory would be given to a later copy while they are in use
    return tensors
