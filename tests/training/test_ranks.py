"""A process of a training that is lost is told in a sentence by those that are left."""

import subprocess
import sys

import pytest

from classmates.training.ranks import told_of_lost_ranks

PROGRAM = """
import os, sys
import torch
from torch import distributed

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
distributed.barrier()
if rank == 1:
    os.kill(os.getpid(), 9)
from classmates.errors import UserError
from classmates.training.ranks import told_of_lost_ranks
try:
    with told_of_lost_ranks():
        distributed.all_reduce(torch.ones(1))
except UserError as error:
    print(error)
os._exit(0)
"""


def test_the_process_that_is_left_says_that_another_one_is_lost(tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    left, lost = (
        subprocess.Popen([*command, rank, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    )
    said, _ = left.communicate(timeout=120)
    lost.wait()
    assert said.startswith("process 0 of 2 has lost another one")
    assert said.endswith("go on with --resume true\n")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), told_of_lost_ranks():
        raise RuntimeError("shapes differ")
