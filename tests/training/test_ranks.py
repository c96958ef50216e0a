"""A process of a training that is lost is named by those that are left."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from classmates.training.ranks import told_of_lost_ranks

PROGRAM = """
import os, sys, time
from types import SimpleNamespace
import torch
from torch import distributed
from classmates.errors import UserError
from classmates.training import ranks

lost, waits, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ranks.GRACE = 1
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
