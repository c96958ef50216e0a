"""One training over a Ray cluster: what cannot work is told before it begins; a real cluster of two nodes trains."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import pytest
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from classmates.errors import NonFiniteLoss, UserError
from classmates.training.on_ray import connect, fatal, one_process, require_devices, uses_gpus
from classmates.training.ranks import LostProcess
from classmates.training.train import train

TINY = {
    "data": "digits",
    "model": "resnet8",
    "recipe": "none",
    "train_size": 60,
    "batch_size": 20,
    "epochs": 3,
    "accelerator": "cpu",
    "precision": "32-true",
    "memory_format": "contiguous",
    "report": False,
    "progress": False,
}


# What cannot work, with or without Ray


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"on": "mars"}, "unknown on 'mars'"),
        ({"devices": "auto"}, "devices='auto': say how many"),
        ({"devices": "0,1"}, "devices='0,1': say how many"),
        ({"devices": 0}, "devices=0: say how many"),
        ({"num_nodes": 2}, "num_nodes=2: Ray chooses the machines"),
        ({"strategy": "fsdp"}, "strategy='fsdp': its processes train by ddp"),
        ({"accelerator": "mps"}, "accelerator='mps'"),
        ({"out": None}, "out: name the run's folder"),
    ],
)
def test_what_does_not_go_with_ray_is_told(tmp_path, given, words):
    with pytest.raises(UserError) as told:
        train(**TINY | {"on": "ray", "devices": 2, "out": tmp_path / "run"} | given)
    assert words in str(told.value)
    assert not (tmp_path / "run").exists()


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'classmates\[ray\]'"):
        train(**TINY, on="ray", devices=2, out=tmp_path / "run")


def test_more_processes_than_the_cluster_has_devices_are_refused():
    require_devices({"CPU": 2.0}, 2, "devices=2", on_gpus=False)
    with pytest.raises(UserError, match=r"devices=3: a process takes one of the cluster's cores, and it has 2:"):
        require_devices({"CPU": 2.0}, 3, "devices=3", on_gpus=False)
    with pytest.raises(UserError, match="one of the cluster's GPUs, and it has 1:"):
        require_devices({"CPU": 64.0, "GPU": 1.0}, 2, "devices=2", on_gpus=True)


def test_processes_take_gpus_where_there_are_some():
    assert uses_gpus({"GPU": 1.0}, "auto")
    assert not uses_gpus({"GPU": 1.0}, "cpu")
    assert not uses_gpus({"CPU": 1.0}, "auto")
    with pytest.raises(UserError, match="the cluster has no GPU"):
        uses_gpus({"CPU": 1.0}, "gpu")


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"does not see '.*elsewhere', the folder that --out .* needs"):
        one_process(_config(tmp_path), str(tmp_path), str(tmp_path / "elsewhere"), None)
    with pytest.raises(UserError, match="the folder that the command was given in"):
        one_process(_config(tmp_path), str(tmp_path / "elsewhere"), str(tmp_path), None)


def _config(folder):
    class Config:
        out = folder / "run"

    return Config


def test_only_a_lost_process_is_worth_another_try():
    told, diverged, lost = UserError("no such model"), NonFiniteLoss("term"), LostProcess("process 0 of 2")
    killed = type("WorkerHealthCheckFailedError", (Exception,), {"__module__": "ray.train.exceptions"})()
    assert fatal([told]) is told
    assert fatal([lost, diverged]) is diverged  # the first one's end is how the second lost it
    assert fatal([lost]) is None
    assert fatal([KeyError("a bug"), killed]) is None
    bug = KeyError("a bug")
    assert fatal([bug]) is bug


# A real cluster of two nodes, of one core each


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # Ray's processes are of low priority otherwise, and hardly run on a machine that does something else.
    os.environ.setdefault("RAY_worker_niceness", "0")
    two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    two.add_node(num_cpus=1)
    ray.init(address=two.address, log_to_driver=False)
    assert len(ray.nodes()) == 2
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the callback below, which workers cannot import
    yield two
    ray.shutdown()
    two.shutdown()


SCRIPT = """
    from classmates import train

    if __name__ == "__main__":
        train(**SETTINGS, devices=2, strategy="ddp", out=FOLDER)
"""


@pytest.fixture(scope="module")
def by_lightning(tmp_path_factory):
    """A run of two processes that Lightning has started on this machine."""
    folder = tmp_path_factory.mktemp("by_lightning")
    script = folder / "script.py"
    text = textwrap.dedent(SCRIPT).replace("SETTINGS", repr(TINY)).replace("FOLDER", repr(str(folder / "run")))
    script.write_text(text)
    subprocess.run([sys.executable, str(script)], check=True, cwd=folder, timeout=600)
    return folder / "run"


def assert_same_run(one, other):
    weights, same = (load_file(folder / "student.safetensors") for folder in (one, other))
    assert weights.keys() == same.keys()
    assert all(weights[name].equal(same[name]) for name in weights)
    columns = [name for name in pd.read_csv(one / "metrics.csv").columns if "second" not in name]
    tables = [pd.read_csv(folder / "metrics.csv")[columns] for folder in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.ray
def test_two_nodes_make_the_run_that_two_processes_make(cluster, by_lightning, tmp_path):
    result = train(**TINY, on="ray", devices=2, out=tmp_path / "run")
    assert_same_run(tmp_path / "run", by_lightning)
    assert result.folder == tmp_path / "run"
    assert result.record.config["devices"] == 2
    assert result.test["student"]["top1"].count == 797
    assert result.student.state_dict().keys() == load_file(tmp_path / "run" / "student.safetensors").keys()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # nothing of Ray's is left
    with pytest.raises(UserError, match="already holds a run"):
        train(**TINY, on="ray", devices=2, out=tmp_path / "run")
    with pytest.raises(UserError, match=r"devices=3: .* it has 2:"):
        train(**TINY, on="ray", devices=3, out=tmp_path / "more")


class KilledOnce(Callback):
    """Kills the second process in the middle of an epoch, once."""

    def __init__(self, folder: Path, epoch: int):
        self.folder, self.epoch = folder, epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        (self.folder / f"{trainer.global_rank}-{os.getpid()}").touch()
        killed = self.folder / "killed"
        if (
            trainer.global_rank == 1
            and trainer.current_epoch == self.epoch
            and batch_idx == 1
            and not killed.exists()
        ):
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.parametrize("epoch", [0, 1], ids=["before the first checkpoint", "after it"])
def test_a_killed_process_is_replaced_and_the_run_is_the_same(cluster, by_lightning, tmp_path, epoch):
    seen = tmp_path / "seen"
    seen.mkdir()
    train(**TINY, on="ray", devices=2, out=tmp_path / "run", callbacks=[KilledOnce(seen, epoch)])
    assert (seen / "killed").exists()
    assert len(list(seen.glob("1-*"))) == 2  # another process in its place
    assert_same_run(tmp_path / "run", by_lightning)


@pytest.mark.ray
def test_an_error_of_the_user_is_told_at_once(cluster, tmp_path):
    begun = time.monotonic()
    with pytest.raises(UserError) as told:
        train(**TINY | {"model": "resnet9"}, on="ray", devices=2, out=tmp_path / "run")
    assert str(told.value).startswith("unknown model 'resnet9'")
    assert "Traceback" not in str(told.value)
    assert time.monotonic() - begun < 300


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_processes(cluster, tmp_path, number):
    flags = [word for name, value in TINY.items() for word in (f"--{name}", str(value).lower())]
    flags[flags.index("--epochs") + 1] = "100000"
    command = [sys.executable, "-m", "classmates", "train", *flags, "--on", "ray", "--devices", "2", "--out", "run"]
    there = os.environ | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, env=there, stderr=said, stdout=said)
    try:
        table = tmp_path / "run" / "metrics.csv"
        wait_until(lambda: table.exists() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "said").read_text()
        process.send_signal(number)
        assert process.wait(120) == 128 + number
    finally:
        process.kill()
    assert "go on with --resume true" in (tmp_path / "said").read_text()
    assert connect().available_resources()["CPU"] == 2
    size = table.stat().st_size
    time.sleep(2)
    assert table.stat().st_size == size  # nobody trains any more


def wait_until(true, seconds=480):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
