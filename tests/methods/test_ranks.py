"""Several processes compute what one does of a batch, by every method: gradients, weights, banks and memories.

``tests/methods/ranks.py`` trains; here its results are compared. Networks are in float32, in which a sum over images
depends on their order: gradients and weights may differ by 5e-4 of a parameter's largest entry, and gradients by 5e-6
of the largest of all; nearly all differ by 3e-6 at most, DIST's by 1e-4. BatchNorm is frozen, in evaluation mode with
gain and bias learning: PyTorch synchronises its statistics on GPUs alone (SyncBatchNorm), and otherwise they are of a
process's own images.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.mixing import mix
from classmates.data.batches.randomness import stream_seed
from classmates.methods import Baseline
from classmates.training.module import seed_everywhere
from tests.methods.ranks import CLASSES, IMAGES, SETTINGS, SIZES, cases, freeze, network

pytestmark = pytest.mark.long

Kept = dict[str, Any]
ROOT = Path(__file__).parents[2]
several = pytest.mark.parametrize("size", SIZES[1:])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Kept]]:
    """What each process of each size has kept, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.methods.ranks", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stderr
    return {size: [torch.load(folder / f"{rank}of{size}.pt") for rank in range(size)] for size in SIZES}


def of_case(kept: dict[int, list[Kept]], size: int, case: str) -> list[Kept]:
    found = [process[case] for process in kept[size]]
    errors = [one for one in found if isinstance(one, str)]
    assert not errors, errors[0]
    return found


def close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], floor: float, where: str) -> None:
    assert found.keys() == expected.keys(), where
    for name, value in expected.items():
        allowed = 5e-4 * value.abs().max().item() + floor if value.numel() else 0
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=allowed, msg=lambda text, n=name: f"{where}{n}: {text}"
        )


def close_gradients(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Some are 0 but for rounding, such as those of a bias that a difference takes away again."""
    largest = max(value.abs().max().item() for value in expected.values() if value.numel())
    close(found, expected, 5e-6 * largest, where)


def numbers(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state by name, those of what a method keeps there of its own too."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": one for inner, one in numbers(value).items()}
        elif isinstance(value, Tensor):
            found[name] = value
    return found


def whole(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the first process's state with the rows of a sharded bank, of which each has every size-th, as one."""
    size, joined = len(states), dict(states[0])
    for name in [name for name in joined if name.endswith(f"shard0of{size}")]:
        first = joined.pop(name)
        bank = name.removesuffix(f"shard0of{size}")
        joined[f"{bank}rows"] = first.new_empty(len(first), size * first.shape[1], first.shape[2])
        for rank, state in enumerate(states):
            joined[f"{bank}rows"][:, rank::size] = state[f"{bank}shard{rank}of{size}"]
    return joined


@several
@pytest.mark.parametrize("case", [case for case in cases() if case != "Mixup"])
def test_processes_compute_what_one_does(kept: dict[int, list[Kept]], case: str, size: int) -> None:
    """They share each batch, so no image is seen by two or by none; gradients of every step and states are one's."""
    (one,) = of_case(kept, 1, case)
    processes = of_case(kept, size, case)
    shares = [process["indices"] for process in processes]
    for step, (batch, *parts) in enumerate(zip(one["indices"], *shares, strict=True)):
        assert torch.equal(torch.cat(parts).sort().values, batch.sort().values), f"the images of step {step}"
    for rank, process in enumerate(processes):
        for step, (found, expected) in enumerate(zip(process["gradients"], one["gradients"], strict=True)):
            close_gradients(found, expected, f"gradient of step {step} in process {rank}, ")
    # Weights, banks and memories are the same to the last bit on all processes.
    states = [numbers(process["state"]) for process in processes]
    for rank, state in enumerate(states[1:], start=1):
        for name in state.keys() & states[0].keys():
            assert torch.equal(state[name], states[0][name]), f"{name} of process {rank} is not that of process 0"
    close(whole(states), numbers(one["state"]), 1e-9, "state, ")


@several
def test_what_is_drawn_in_a_step_is_drawn_by_each_process(kept: dict[int, list[Kept]], size: int) -> None:
    """Of Mixup gradients are the mean of those that one process has of each one's batch, mixed as that one mixes."""
    processes = of_case(kept, size, "Mixup")
    labels = torch.zeros(len(IMAGES[True]), dtype=torch.int64)
    for process in processes:
        _, own, indices, *_ = process["first"]
        labels[indices] = own
    method = Baseline(network(), DataSpec(CLASSES, labels, (3, 16, 16)))
    freeze(method)
    for rank, process in enumerate(processes):
        seed_everywhere(stream_seed("step", 0, 0, rank), torch.device("cpu"))
        batch = mix(Batch(*process["first"]), CLASSES, SETTINGS["Mixup"]["augmentation"])
        (method(batch).total / size).backward()
    expected = {name: one.grad for name, one in method.named_parameters() if one.grad is not None}
    for rank, process in enumerate(processes):
        close_gradients(process["gradients"][0], expected, f"process {rank}, ")
