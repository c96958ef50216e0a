"""Where a run takes place: what is recorded of it, and memory that stays with the process."""

import platform
import resource

import pytest
import torch

from classmates.training.environment import environment, keep_freed_memory


def test_what_is_recorded():
    found = environment(torch.device("cpu"))
    assert {"classmates", "torch", "timm", "jpeg_decoder", "python", "cpu", "threads", "commit"} <= found.keys()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_stays():
    assert keep_freed_memory()

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.zeros(16 * 2**20)  # 64 MiB, freed at once
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 1000  # of the 16,384 pages that each takes
