"""The device that answers are computed on."""

import pytest
import torch

from classmates.errors import UserError
from classmates.evaluation.predict import device_for


def test_on_slurm_it_is_the_process_own_whatever_else_was_started(monkeypatch):
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "four", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert device_for("cpu") == torch.device("cpu")


def test_one_that_is_not_there_is_told():
    with pytest.raises(UserError, match="accelerator 'abacus' cannot be used"):
        device_for("abacus")
