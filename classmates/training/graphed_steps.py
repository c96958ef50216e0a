"""Training by CUDA graphs of whole steps, once the first of them have proved to compute what plain steps do."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Hashable
from typing import Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from classmates._progress import note
from classmates.contracts import Batch
from classmates.errors import first_line
from classmates.methods.base import Method, Output
from classmates.training.step_graph import How, StepGraph, constants, whole_step

StepKind = Literal["auto", "eager", "graph", "compile"]
COMPARED = 3
"""Steps that are compared: what one keeps for the next shows in the second."""
ALIKE = 0.05
"""Largest difference of a term and of a step's change to all weights, relative to it; rounding makes less."""
WITHIN = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
"""What callbacks may do between the parts of a step, which a graph takes as one."""
COPIES = 6
"""Of all numbers, in a trial: the copy with its gradients and momenta, and those before a step."""


def against_graphs(trainer: L.Trainer) -> str | None:
    """Return why a trainer's steps cannot be CUDA graphs; None where they may."""
    if trainer.strategy.root_device.type != "cuda":
        return f"a CUDA graph needs a GPU, and this run is on the {trainer.strategy.root_device.type}"
    if trainer.world_size > 1:
        return f"the {trainer.world_size} processes of this run exchange their gradients in each step"
    if trainer.accumulate_grad_batches > 1:
        return f"with accumulate={trainer.accumulate_grad_batches} a batch is not a whole step"
    if trainer.scaler is not None:
        return "float16 scales its losses by what the host reads in each step"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for hook in WITHIN:
            if getattr(type(callback), hook) is not getattr(Callback, hook):
                return f"{type(callback).__name__}.{hook} looks into the step"
    return None


class GraphedSteps:
    """A method's steps as a graph, captured when two steps in a row have been of one kind, and anew when they change.

    The first steps are compared with plain ones of a copy of the method, and timed against them. Where a step cannot
    be captured, computes something else or is not faster, plain steps go on, with a note that says why.

    Args:
        method, optimizer: what takes the steps.
        how: how they are taken.
        faster: whether the graph must be faster than plain steps to be used.
    """

    def __init__(self, method: Method, optimizer: Optimizer, how: How, *, faster: bool):
        self.method, self.optimizer, self.how = method, optimizer, how
        self.faster = faster
        self.graph: StepGraph | None = None
        self.last: Hashable = None
        self.trial: Trial | None = None
        self.proved = self.given_up = False
        self.trained: list[bool] = []

    def begin_epoch(self) -> None:
        """Drop the graph where other weights learn from now on, or networks are in another mode."""
        trained = [one.requires_grad for one in self.method.parameters()]
        if trained != self.trained:
            self.graph, self.last, self.trained = None, None, trained

    def __call__(self, batch: Batch) -> Output | None:
        """Take the whole step, update included; or return None where a plain step is to be taken."""
        if self.given_up or not self.captured(batch):
            return None
        assert self.graph is not None
        if self.trial is None:
            return self.graph.replay(batch)
        try:
            output = self.trial.compare(self.graph, batch)
        except torch.OutOfMemoryError:  # in the copy's plain step: nothing has been learnt from the batch yet
            self.give_up("the memory is not enough for it beside plain steps")
            return None
        self.judge(self.trial)
        return output

    def captured(self, batch: Batch) -> bool:
        """Return whether there is a graph for the batch, after capturing it where it is time to."""
        kind = constants(self.method, self.optimizer, batch)
        repeated, self.last = kind == self.last, kind
        if self.graph is not None and self.graph.constants == kind:
            return True
        if not repeated:
            return False
        self.graph = None  # before the next one, for its memory
        try:
            if not self.proved:
                self.trial = Trial(self.method, self.optimizer, self.how)
            self.graph = StepGraph(self.method, self.optimizer, self.how, batch)
        except Exception as error:  # of any type: what a method does in a step is its own affair
            self.give_up(f"it could not be captured ({first_line(error)})")
            return False
        return True

    def judge(self, trial: Trial) -> None:
        """Decide by the steps so far, as soon as they say it."""
        plain, graph = (f"{1000 * seconds:.1f} ms" for seconds in (trial.plain, trial.graph))
        if trial.difference > ALIKE:
            trial.restore()
            self.give_up(f"its results differ from those of plain steps by {trial.difference:.1%}")
        elif trial.steps < COMPARED:
            return
        elif self.faster and trial.graph >= trial.plain:
            self.give_up(f"it is not faster ({graph}, plain {plain})")
        else:
            self.proved = True
            note(f"steps run as one CUDA graph: {graph} a step instead of {plain}, compared with plain steps first")
        self.trial = None

    def give_up(self, why: str) -> None:
        """Take plain steps from now on."""
        self.graph, self.trial, self.given_up = None, None, True
        self.optimizer.zero_grad()  # gradients that lie in the graph's memory
        note(f"steps do not run as a CUDA graph: {why}")


class Trial:
    """A copy of a method and its optimiser that takes plain steps on the batches on which a graph takes its own.

    Both begin each step alike, but for what a method keeps elsewhere than in parameters, buffers and the optimiser.
    """

    def __init__(self, method: Method, optimizer: Optimizer, how: How):
        # A graph keeps what its step has computed, beside which plain steps, as of a last smaller batch, need theirs.
        step = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
        needed = COPIES * sum(one.nbytes for kind in numbers(method) for one in kind) + 2 * step
        if torch.cuda.is_available() and needed > free_memory():
            raise MemoryError(f"it and the steps to compare it with need {needed / 2**30:.1f} GiB on the GPU")
        self.given = method, optimizer
        self.method, self.optimizer = copy.deepcopy((method, optimizer))
        self.how = how
        self.steps = 0
        self.difference = 0.0
        self.plain = self.graph = math.inf

    def compare(self, graph: StepGraph, batch: Batch) -> Output:
        """Take a step both ways, from the same weights and random state; return the graph's result."""
        method, optimizer = self.given
        copy_state(method, optimizer, self.method, self.optimizer)
        before = [[one.clone() for one in kind] for kind in numbers(method)]
        with torch.random.fork_rng([batch.images.device] if batch.images.is_cuda else []):
            expected, plain = timed(lambda: whole_step(self.method, self.optimizer, batch, self.how))
        found, replayed = timed(lambda: graph.replay(batch))
        self.plain, self.graph = min(self.plain, plain), min(self.graph, replayed)
        self.steps += 1
        pairs = [(found.terms[name], term) for name, term in expected.terms.items()]
        differences = [relative(size([ours - theirs]), size([theirs])) for ours, theirs in pairs]
        for ours, theirs, start in zip(numbers(method), numbers(self.method), before, strict=True):
            differences.append(relative(distance(ours, theirs), distance(theirs, start)))
        self.difference = max(self.difference, *differences)
        return found

    def restore(self) -> None:
        """Give the method and the optimiser the state that plain steps have led to."""
        method, optimizer = self.given
        method.load_state_dict(self.method.state_dict())
        optimizer.load_state_dict(self.optimizer.state_dict())


@torch.no_grad()
def copy_state(method: Method, optimizer: Optimizer, to_method: Method, to_optimizer: Optimizer) -> None:
    """Copy all numbers of a method and its optimiser into a copy of both, and the optimiser's settings."""
    for mine, its in zip(
        (*method.parameters(), *method.buffers()), (*to_method.parameters(), *to_method.buffers()), strict=True
    ):
        its.copy_(mine)
    for group, its_group in zip(optimizer.param_groups, to_optimizer.param_groups, strict=True):
        its_group.update({name: value for name, value in group.items() if name != "params"})
        for one, its in zip(group["params"], its_group["params"], strict=True):
            for name, value in optimizer.state.get(one, {}).items():
                if isinstance(value, Tensor):
                    to_optimizer.state[its][name].copy_(value)


def numbers(method: Method) -> tuple[list[Tensor], list[Tensor]]:
    """Return what steps change: parameters, and buffers such as statistics and memory banks."""
    floating = [one for one in method.buffers() if one.is_floating_point()]
    return [one.detach() for one in method.parameters()], floating


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the Euclidean distance of all numbers together."""
    return size([a.float() - b.float() for a, b in zip(ours, theirs, strict=True)])


def size(of: list[Tensor]) -> float:
    """Return the Euclidean norm of all numbers together."""
    return torch.stack([one.float().square().sum() for one in of]).sum().sqrt().item() if of else 0.0


def relative(difference: float, whole: float) -> float:
    """Return a difference as a share of the whole; infinite where it is no number."""
    return math.inf if math.isnan(difference) else difference / max(whole, 1e-6)


def timed(step: Callable[[], Output]) -> tuple[Output, float]:
    """Return a step's result and the seconds it took, on the device too."""
    wait()
    began = time.perf_counter()
    output = step()
    wait()
    return output, time.perf_counter() - began


def free_memory() -> int:
    """Return how many bytes the GPU has for new tensors: those of nobody, and those that PyTorch keeps unused."""
    return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def wait() -> None:
    """Wait for the device, where there is one beside the processor."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
