"""Whose steps cannot be CUDA graphs, as far as the trainer tells."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.training.graphed_steps import against_graphs


class LooksIn(Callback):
    def on_after_backward(self, trainer, module):
        pass


def trainer(device="cuda", **changes):
    """As much of a trainer as is looked at; no GPU is needed to name one."""
    settings = {"world_size": 1, "accumulate_grad_batches": 1, "scaler": None, "callbacks": [Callback()]}
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), **{**settings, **changes})


def test_one_process_on_a_gpu_may_take_graphs():
    assert against_graphs(trainer()) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "cpu"}, "a CUDA graph needs a GPU, and this run is on the cpu"),
        ({"world_size": 2}, "the 2 processes of this run exchange their gradients in each step"),
        ({"accumulate_grad_batches": 3}, "with accumulate=3 a batch is not a whole step"),
        ({"scaler": object()}, "float16 scales its losses by what the host reads in each step"),
        ({"callbacks": [Callback(), LooksIn()]}, "LooksIn.on_after_backward looks into the step"),
    ],
)
def test_others_may_not(changes, said):
    assert against_graphs(trainer(**changes)) == said
