"""What one call does, counted and not timed: live bytes, bytes kept for backward, operations, looks at values."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Function = Callable[[], object]
MIB = 2**20
TORCH = str(Path(torch.__file__).parent)
# What the host must wait for the device to know: a value, or how large a result is.
WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
}
# What would wait on a GPU and is nothing to the dispatcher on a CPU.
TO_HOST = (Tensor.tolist, Tensor.numpy, Tensor.cpu)


class Counts(NamedTuple):
    """operations: launched kernels, outputs not among them. synchronisations: times the host waits for the device."""

    operations: int
    synchronisations: int


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_memory(function: Function) -> float:
    """The most MiB of tensors that were live at any moment of the call, over what was live before it."""
    if device().type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak / MIB


def saved_bytes(function: Function) -> int:
    """Bytes that the call's forward passes keep for backward, each storage once; what was there before is free."""
    # Held until the end: what the call frees, such as old gradients, would else lend its address to what it keeps.
    held = [one for one in gc.get_objects() if type(one) in (Tensor, Parameter)]
    existing = {storage(one) for one in held}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    del held
    return sum(size for place, size in kept.items() if place not in existing)


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def counts(function: Function) -> Counts:
    """Operations and waits of the call, its backward included. On a CPU the waits are those that a GPU would have."""
    operations, looks = _watch(function)
    return Counts(operations.launched, len(operations.waits) + len(looks.waits))


def waiting_lines(function: Function) -> list[str]:
    """The source line of every wait that ``counts`` counts: the innermost one outside of PyTorch."""
    operations, looks = _watch(function)
    return [*operations.waits, *looks.waits]


def _watch(function: Function) -> tuple[_Operations, _Looks]:
    operations, looks = _Operations(), _Looks()
    with looks, operations:
        function()
    return operations, looks


def _source_line() -> str:
    """Where the program is, outside of PyTorch and of this module: ``file.py:12: code``."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != __file__ and not frame.filename.startswith(TORCH):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return "unknown"


def flops(function: Function) -> int:
    """Floating-point operations of products and convolutions, backward included."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


class _Operations(TorchDispatchMode):
    """Counts what reaches the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.launched = 0
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.launched += not func.is_view and name not in ("detach", "_unsafe_view")
        if name in WAITING or self._selects(name, args) or self._to_host(args, result):
            self.waits.append(_source_line())
        return result

    @staticmethod
    def _selects(name: str, args: Sequence[Any]) -> bool:
        """Indexing by a mask counts the mask's ones first."""
        masks = tree_leaves(args[1]) if name in ("index", "index_put", "index_put_") else []
        return any(isinstance(mask, Tensor) and mask.dtype == torch.bool for mask in masks)

    @staticmethod
    def _to_host(args: Sequence[Any], result: Any) -> bool:
        tensors = [one for one in tree_leaves(args) if isinstance(one, Tensor)]
        return isinstance(result, Tensor) and result.is_cpu and any(not one.is_cpu and one.numel() for one in tensors)


class _Looks(TorchFunctionMode):
    """Counts what reads a tensor of the CPU as if it were on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in TO_HOST and args[0].is_cpu:
            self.waits.append(_source_line())
        return func(*args, **(kwargs or {}))
