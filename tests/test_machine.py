"""What a device multiplies in."""

from contextlib import nullcontext

import pytest
import torch

from classmates._machine import has_bfloat16, require_kernels, wait_for
from classmates.errors import UserError


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
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    wait_for(torch.device("cpu"))
    wait_for(torch.device("cuda:1"))
    wait_for(torch.device("mps"))
    assert waited == [torch.device("cuda:1"), "mps"]


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (["sm_75", "sm_80", "sm_90"], (7, 5), True),
        (["sm_75", "sm_80", "sm_90"], (8, 9), True),
        (["sm_75", "sm_80", "sm_90"], (6, 1), False),
        (["sm_75", "sm_80", "sm_90a"], (10, 0), False),
        (["sm_75", "compute_90"], (12, 0), True),
        (["sm_75", "compute_90"], (8, 6), False),
        (["sm_100", "sm_120"], (12, 0), True),
        (["gfx90a", "gfx942"], (9, 0), True),
        ([], (9, 0), True),
    ],
)
def test_a_gpu_that_pytorch_was_not_built_for_is_told(built, capability, runs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    with nullcontext() if runs else pytest.raises(UserError, match=r"GTX 1080 is .* not built for: say --acc"):
        require_kernels(torch.device("cuda"))
    require_kernels(torch.device("cpu"))
