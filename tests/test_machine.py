"""What a device multiplies in."""

import pytest
import torch

from classmates._machine import has_bfloat16, wait_for


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", False), ("cuda:0", True), ("cuda:1", False), ("mps", False)]
)
def test_a_gpu_without_a_number_stands_for_every_one(device, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: [(9, 0), (7, 5)][number])
    assert has_bfloat16.__wrapped__(torch.device(device)) == expected


@pytest.mark.parametrize(("avx512", "amx"), [(True, False), (False, True), (False, False)])
def test_a_cpu_does_by_either_of_two_instructions(avx512, amx, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert has_bfloat16.__wrapped__(torch.device("cpu")) == (avx512 or amx)


def test_only_a_gpu_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    wait_for(torch.device("cpu"))
    wait_for(torch.device("cuda:1"))
    assert waited == [torch.device("cuda:1")]
