"""A process of a training that is lost is told in a sentence by those that are left."""

import subprocess
import sys

import pytest

from classmates.errors import UserError
from classmates.training.ranks import agreed, first_process, told_of_lost_ranks
from classmates.training.train import train

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


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "1"}, False),
        ({"RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "3"}, True),  # Ray or torchrun, started by SLURM
    ],
)
def test_which_process_is_the_first_is_read_from_whoever_started_it(monkeypatch, given, first):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert first_process() is first


def test_a_process_alone_agrees_with_itself():
    assert agreed(lambda: "bf16-mixed") == "bf16-mixed"


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (
            dict.fromkeys(("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES"), "1")
            | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "here"},
            "--ntasks-per-node=1",
        ),
        (
            {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "3", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"},
            "world size",
        ),
    ],
    ids=["SLURM", "torchrun"],
)
def test_other_numbers_than_those_of_whoever_started_the_processes_are_told(tmp_path, monkeypatch, there, words):
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words) as told:
        train(train_size=60, batch_size=20, epochs=1, accelerator="cpu", devices=2, strategy="ddp",
              precision="32-true", memory_format="contiguous", out=tmp_path / "run")  # fmt: skip
    assert str(told.value).startswith("devices=2, num_nodes=1: ")
    assert not (tmp_path / "run").exists()
