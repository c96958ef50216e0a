"""Where a run takes place: what is recorded of it."""

import torch

from classmates.training.environment import environment


def test_what_is_recorded():
    found = environment(torch.device("cpu"))
    assert {"classmates", "torch", "timm", "jpeg_decoder", "python", "cpu", "threads", "commit"} <= found.keys()
