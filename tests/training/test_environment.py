"""Where a run takes place: what is recorded of it."""

import subprocess
from pathlib import Path

import pytest
import torch

from classmates.training import environment as module
from classmates.training.environment import environment

HERE = Path(module.__file__).parents[2]


def test_what_is_recorded():
    found = environment(torch.device("cpu"))
    assert {"classmates", "timm", "jpeg_decoder", "python", "cpu"} <= found.keys()
    assert torch.__version__.partition("+")[0] == found["torch"]
    assert found["cuda"] == torch.version.cuda
    assert (found["threads"], found["accelerator"]) == (torch.get_num_threads(), "cpu")


@pytest.mark.skipif(not (HERE / ".git").exists(), reason="this is no checkout")
def test_a_checkouts_commit_is_marked_where_files_have_changed(monkeypatch):
    asked = subprocess.run(["git", "-C", str(HERE), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    head = asked.stdout.strip()
    assert str(environment(torch.device("cpu"))["commit"]).removesuffix("+") == head
    real = subprocess.run
    for changed, mark in ((" M setup.py", "+"), ("", "")):

        def run(command, changed=changed, **how):
            done = real(command, **how)
            return subprocess.CompletedProcess(command, 0, changed if "status" in command else done.stdout)

        monkeypatch.setattr(subprocess, "run", run)
        assert environment(torch.device("cpu"))["commit"] == head + mark


def test_a_package_outside_a_checkout_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "classmates" / "training" / "environment.py"))
    assert environment(torch.device("cpu"))["commit"] is None
