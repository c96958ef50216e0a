"""A method that nobody holds any more is gone, with its networks and tensors; a process does not grow by them."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator

import pytest
from torch import Tensor, nn

from classmates.contracts import DataSpec
from classmates.methods import Method
from tests.methods.conftest import BatchFor, Build


def live_bytes() -> int:
    """Bytes of all tensors that Python has made since it was told to look at none before, each storage once."""
    storages = [one.untyped_storage() for one in gc.get_objects() if type(one) in (Tensor, nn.Parameter)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.fixture(scope="module")
def only_what_is_new() -> Iterator[None]:
    """What other tests have left is none of the objects that are looked through, of which there would be millions."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def no_collector(only_what_is_new: None) -> Iterator[None]:
    """What lies in a cycle of references stays: until the collector runs, it would fill the memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.filterwarnings("ignore:num_negatives")
def test_nothing_of_a_dropped_method_stays(
    kind: type[Method],
    build: Build,
    batch_for: BatchFor,
    tiny_network: Callable[..., nn.Module],
    tiny_data: DataSpec,
    no_collector: None,
) -> None:
    def train() -> list[weakref.ref[nn.Module]]:
        method = build(kind, tiny_network(), tiny_data)
        method(batch_for(method)).total.backward()
        return [weakref.ref(module) for module in method.modules()]

    train()  # what a first call makes once and for all is no growth
    before = live_bytes()
    modules = train()
    assert len(modules) > 4
    assert [one() for one in modules if one() is not None] == []
    assert live_bytes() == before


RESIDENT = """
import resource, warnings
from pathlib import Path
import torch
from classmates import CORSD, MCL, SD, Baseline, DataSpec
from classmates.networks.building.build import build_model

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

warnings.simplefilter("ignore")
torch.set_num_threads(1)
data = DataSpec(10, torch.arange(1000) % 10, (3, 32, 32))
after = []
for _ in range(3):
    for method in (Baseline, MCL, CORSD, SD):
        method(build_model("mobilenetv1_cifar", 10), data)
    after.append(resident())
print(*after)
"""
WEIGHTS = 4 * 3.2e6 / 2**20
"""MiB of the network's weights, which the smallest of the four methods has once."""


@pytest.mark.skipif(sys.platform != "linux", reason="what is resident is read as Linux tells it")
def test_a_process_does_not_grow_by_the_methods_that_it_built() -> None:
    returned = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}  # the allocator keeps no tensor that was freed
    told = subprocess.run(
        [sys.executable, "-c", RESIDENT], env=returned, capture_output=True, text=True, check=True
    ).stdout
    first, *_, last = map(float, told.split())
    assert last - first < WEIGHTS  # of any method that stays, two are more
