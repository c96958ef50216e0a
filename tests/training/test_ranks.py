"""A process of a training that is lost is named by those that are left."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from classmates.catalog import methods
from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.errors import UserError
from classmates.networks.building.build import build_model
from classmates.training.ranks import agreed, first_process, some_without_gradient, told_of_lost_ranks
from classmates.training.train import train

PROGRAM = """
import os, sys, time
from types import SimpleNamespace
import torch
from torch import distributed
from classmates.errors import UserError
from classmates.training import rank_watch, ranks

lost, waits, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
rank_watch.GRACE = 1
rank = int(os.fork() == 0)
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
launcher = SimpleNamespace(launcher=None, barrier=distributed.barrier)
trainer = SimpleNamespace(callbacks=[], world_size=2, global_rank=rank, strategy=launcher)
try:
    with ranks.told_of_lost_ranks(trainer):
        trainer.callbacks[0].setup(trainer, None, "fit")
        distributed.barrier()
        if rank == lost:
            os.kill(os.getpid(), 9)
        distributed.all_reduce(torch.ones(1)) if waits == "connected" else time.sleep(60)
except UserError as error:
    print(error, file=sys.stderr)
os._exit(2)
"""


@pytest.mark.parametrize("waits", ["connected", "alone"])
@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (1, "process 0 of 2 has lost process 1, which was ended by SIGKILL; its own last words"),
        (0, "process 1 of 2 has lost process 0, which has ended; its own last words"),
    ],
)
def test_the_process_that_is_left_names_the_lost_one(tmp_path, lost, said, waits):
    """Whether the connection tells of it, or the process would wait for what never comes."""
    command = [sys.executable, "-c", PROGRAM, str(lost), waits, str(tmp_path / "store")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == (2 if lost else -9)
    assert ended.stderr.startswith(said)
    assert ended.stderr.endswith("go on with --resume true\n")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), told_of_lost_ranks(SimpleNamespace(callbacks=[])):
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
    several = SimpleNamespace(devices="auto", num_nodes=1, strategy="auto")
    assert first_process(several) is first
    alone = SimpleNamespace(devices=1, num_nodes=1, strategy="auto")
    assert first_process(alone) is ("RANK" not in given or first)


@pytest.mark.parametrize("others", [{"SLURM_NTASKS_PER_NODE": "4"}, {}])
def test_a_run_of_one_process_is_whole_on_whatever_task_of_slurm(small_train, tmp_path, monkeypatch, others):
    """As comparisons are that share a folder, each a task of its own."""
    for name, value in {"SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_JOB_NAME": "four", **others}.items():
        monkeypatch.setenv(name, value)
    small_train(out=tmp_path / "run", epochs=1, devices=1)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"config.yaml", "result.json", "student.safetensors", "checkpoints"}


@pytest.fixture
def four(monkeypatch):
    """A machine with four devices, as far as Lightning knows."""
    monkeypatch.setattr("lightning.pytorch.accelerators.CPUAccelerator.auto_device_count", staticmethod(lambda: 4))


def test_a_run_takes_one_device_unless_more_are_asked_for(small_train, tmp_path, four):
    assert small_train(out=tmp_path / "run", epochs=1).record.config["devices"] == 1


@pytest.mark.parametrize("devices", [4, "auto"])
def test_a_batch_that_processes_cannot_share_is_told_before_anything_is_written(tmp_path, four, devices):
    with pytest.raises(UserError, match=r"batch_size is 18, shared by 4 processes; .*: use 16 or 20"):
        train(train_size=60, batch_size=18, epochs=1, accelerator="cpu", devices=devices, strategy="ddp",
              precision="32-true", memory_format="contiguous", out=tmp_path / "run")  # fmt: skip
    assert not (tmp_path / "run").exists()


TEACHER = {"teacher": build_model("resnet8", num_classes=4, in_chans=1)}
ABLATIONS = {
    "CORSD": [{"sigma": 0}, {"gamma_p": 0}, {"gamma_n": 0}, {"alpha": 0, "beta": 0}],
    "MCL": [{"beta": 0}],
    "MCLBatch": [{"within": 0, "soft_within": 0, "across": 0, "soft_across": 0}],
    "CRD": [{"beta": 0, **TEACHER}],
    "ReviewKD": [{"review": 0, **TEACHER}],
    "FitNet": [{"hint": 0, **TEACHER}, {"hint_epochs": 1, **TEACHER}],
    "SD": [{"lam": 0}],
    "DeepSupervision": [{"weight": 0}],
    "OKDDip": [{"distillation": 0}, {"detach": True}],
    "Baseline": [{}],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "options"), [(name, one) for name, every in ABLATIONS.items() for one in every])
def test_processes_wait_for_no_gradient_that_does_not_come(name, options):
    """Whatever leaves a parameter without a gradient is known by its weights; MCL without a contrast has no such."""
    labels = torch.arange(24) % 4
    method = methods()[name](build_model("resnet8", num_classes=4, in_chans=1), DataSpec(4, labels), **options)
    method.epochs = 4
    indices = torch.tensor(next(iter(EpochSampler(method.sampling, labels, 12))))
    method(Batch(torch.randn(12, 1, 16, 16), labels[indices], indices)).total.backward()
    without = [one for one in method.parameters() if one.requires_grad and one.grad is None]
    assert some_without_gradient(method, 4) is (bool(without) or name == "MCL")
    assert bool(without) is (name not in ("Baseline", "MCL") and "detach" not in options)


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
