"""What is timed as compiled computes what the package does."""

import torch

from benchmarks.compiling import one_pass, whole_bank, work
from benchmarks.contrast import TEMPERATURE, Bank
from classmates.losses.contrast import repulsion


def test_one_pass_is_all_passes():
    bank = Bank(3072)  # blocks of even sizes
    expected = repulsion(*work(bank), TEMPERATURE)
    found = whole_bank(*work(bank), one_pass)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
