from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from classmates.data.batches.copying import on_device

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


class Stream:
    """A stream that writes down what it is told."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name
        self.recorded = 0

    def record_event(self) -> str:
        self.recorded += 1
        return f"copy {self.recorded - 1}"

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")


class OneTensor:
    """A batch's tensor in host memory, then on the device."""

    device = GPU

    def __init__(self, log: list[str], present: list[str], number: int) -> None:
        self.log, self.present, self.number = log, present, number

    def to(self, device: torch.device, non_blocking: bool) -> "OneTensor":
        assert non_blocking
        assert device == GPU
        self.log.append(f"copy {self.number} on {self.present[-1]}")
        return self

    def record_stream(self, stream: Stream) -> None:
        self.log.append(f"{self.number} kept for {stream.name}")


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch, log: list[str]) -> list[str]:
    """Put such streams in the place of CUDA's; the last name is the present stream's."""
    names = ["computing"]

    @contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        names.append(chosen.name)
        yield
        names.pop()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(log, "copying"))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(log, names[-1]))
    return names


@pytest.fixture
def log() -> list[str]:
    return []


def test_a_cpu_gets_each_batch_when_it_is_made() -> None:
    made: list[int] = []

    def batches() -> Iterator[list[Tensor]]:
        for number in range(3):
            made.append(number)
            yield [torch.tensor(number)]

    given = on_device(batches(), CPU)
    assert int(next(given)[0]) == 0
    assert made == [0]
    assert [int(batch[0]) for batch in given] == [1, 2]


def test_a_gpu_gets_the_next_batch_while_it_computes(log: list[str], present: list[str]) -> None:
    batches: Any = [[OneTensor(log, present, number)] for number in range(3)]
    for (one,) in on_device(batches, GPU):
        log.append(f"step {one.number}")  # type: ignore[attr-defined]
    steps = {number: log.index(f"step {number}") for number in range(3)}
    for number in range(3):
        used = [f"computing waits for copy {number}", f"{number} kept for computing", f"step {number}"]
        assert log[steps[number] - 2 : steps[number] + 1] == used  # nothing is used before it has arrived
        assert f"copy {number} on copying" in log[: steps[max(number - 1, 0)]]  # copied before the step before it


@pytest.mark.parametrize("count", [0, 1])
def test_a_gpu_gets_few_batches(log: list[str], present: list[str], count: int) -> None:
    batches: Any = [[OneTensor(log, present, number)] for number in range(count)]
    assert len(list(on_device(batches, GPU))) == count


@pytest.mark.gpu
def test_what_arrives_on_a_gpu_is_what_was_sent_and_stays_so() -> None:
    sent = [[torch.full((64, 3, 64, 64), number).pin_memory(), torch.tensor([number])] for number in range(20)]
    busy = torch.rand(2048, 2048, device="cuda")
    sums = []
    for images, number in on_device(sent, GPU):
        assert images.device.type == number.device.type == "cuda"
        for _ in range(10):
            busy = busy @ busy / 1024  # the device is behind the host
        sums.append(torch.stack([images.sum() / images.numel(), number.float().sum()]))
    assert torch.equal(torch.stack(sums).cpu(), torch.arange(20.0)[:, None].expand(-1, 2))


@pytest.mark.gpu
def test_copies_run_beside_the_computing() -> None:
    sent = [[torch.zeros(256, 3, 224, 224, dtype=torch.uint8).pin_memory()] for _ in range(6)]
    busy = torch.rand(4096, 4096, device="cuda")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in on_device(sent, GPU):
            for _ in range(10):
                busy = busy @ busy / 2048
        torch.cuda.synchronize()
    events = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    copies = [event.time_range for event in events if "HtoD" in event.name]
    kernels = [event.time_range for event in events if "Memcpy" not in event.name]
    beside = [any(k.start < c.end and c.start < k.end for k in kernels) for c in copies]
    assert len(copies) == 6
    assert sum(beside) >= 4
