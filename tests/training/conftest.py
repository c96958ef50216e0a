"""Small real runs: digits, 120 labelled images, a ResNet-8; the precision is said, so that no timing chooses it."""

from functools import partial

import pytest

from classmates.methods import MCL
from classmates.training.train import train

SMALL = {
    "data": "digits",
    "model": "resnet8",
    "train_size": 120,
    "batch_size": 30,
    "epochs": 4,
    "accelerator": "cpu",
    "precision": "32-true",
    "memory_format": "contiguous",
    "loggers": (),
    "report": False,
    "progress": False,
}


@pytest.fixture
def small_train():
    """``train`` on little data with the settings that a test does not change."""
    return partial(train, **SMALL)


@pytest.fixture
def small_mcl():
    return partial(MCL, peers=2, num_negatives=16, dimension=8)
