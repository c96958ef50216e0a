"""Two processes on one machine: one run, one record, each sample in one process only, banks that stay equal.

Where one of them is killed the other says which, and the run goes on as if nothing had been.
"""

import json
import subprocess
import sys
import textwrap

import pandas as pd
import pytest

pytestmark = pytest.mark.long

SCRIPT = """
    import os
    import sys
    from functools import partial
    from pathlib import Path
    import torch
    from lightning.pytorch.callbacks import Callback
    from classmates import MCL, SD, train

    class Witness(Callback):
        def __init__(self):
            self.seen = []

        def on_train_start(self, trainer, module):
            wrapped = trainer.strategy.model
            self.sent = sorted(wrapped.named_module_buffers)

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.seen += batch.indices.tolist()
            if KILLED and trainer.global_rank == 1 and trainer.global_step == 4:
                (Path(FOLDER) / "killed").touch()
                os.kill(os.getpid(), 9)

        def on_exception(self, trainer, module, exception):
            (Path(FOLDER) / "ended").touch()

        def on_train_end(self, trainer, module):
            method = module.method
            bank = method.contrast.bank.rows if isinstance(method, MCL) else None
            state = {"seen": self.seen, "sent": self.sent, "bank": bank}
            state["weight"] = method.student().fc.weight.data
            torch.save(state, Path(FOLDER) / f"{NAME}-{trainer.global_rank}.pt")

    NAME, KILLED, RESUMED = sys.argv[1], "killed" in sys.argv, "resumed" in sys.argv
    if __name__ == "__main__":
        whole = partial(MCL, peers=2, num_negatives=8, dimension=8)
        train(data="digits", model="resnet8", method=partial(SD, lam=0.0) if NAME == "ablation" else whole,
              train_size=60, batch_size=20, epochs=2, val_fraction=0, accelerator="cpu", devices=2, strategy="ddp",
              precision="32-true", memory_format="contiguous",
              loggers=(), report=False, progress=False, out=Path(FOLDER) / NAME, callbacks=[Witness()],
              resume=RESUMED, freeze_stages=int(NAME in ("frozen", "freed")),
              freeze_epochs=1 if NAME == "freed" else None)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("distributed")
    (made / "script.py").write_text(textwrap.dedent(SCRIPT).replace("FOLDER", repr(str(made))))
    return made


def trained(folder, *words):
    """Train in processes of their own."""
    command = [sys.executable, str(folder / "script.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)


def states(folder, name):
    """Return what each process had at the end."""
    import torch

    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def whole(folder):
    """What each process had at the end of a run that nothing has interrupted."""
    ended = trained(folder, "whole")
    assert ended.returncode == 0, ended.stderr
    return states(folder, "whole")


def test_two_processes_make_one_run(folder, whole):
    import torch

    first, second = whole
    per_epoch = [one["seen"][epoch : epoch + 30] for one in whole for epoch in (0, 30)]
    for own, other in (per_epoch[0::2], per_epoch[1::2]):
        assert not set(own) & set(other)
        assert sorted(own + other) == list(range(60))
    assert torch.equal(first["bank"], second["bank"])
    assert any(name.endswith("running_mean") for name in first["sent"])
    assert "method.contrast.log_mean" in first["sent"]
    assert not any(name.startswith(("method.contrast.bank.", "method.contrast.classes.")) for name in first["sent"])
    assert torch.equal(first["weight"], second["weight"])
    record = json.loads((folder / "whole" / "result.json").read_text())
    assert record["training"]["steps"] == 6
    assert record["test"]["student"]["top1"]["count"] == 797
    assert len(pd.read_csv(folder / "whole" / "metrics.csv")) == 2


@pytest.mark.parametrize("name", ["frozen", "freed", "ablation"])
def test_what_has_no_gradient_is_waited_for_by_nobody(folder, name):
    """Frozen stages, for good or for an epoch, and what only a term without weight would teach."""
    import torch

    ended = trained(folder, name)
    assert ended.returncode == 0, ended.stderr
    first, second = states(folder, name)
    assert torch.equal(first["weight"], second["weight"])


def test_a_process_that_is_killed_is_named_and_the_run_goes_on(folder, whole):
    import torch

    ended = trained(folder, "run", "killed")
    assert (folder / "ended").stat().st_mtime - (folder / "killed").stat().st_mtime < 60
    assert ended.returncode == 1
    assert "process 0 of 2 has lost process 1, which was ended by SIGKILL" in ended.stderr
    resumed = trained(folder, "run", "resumed")
    assert resumed.returncode == 0, resumed.stderr
    for found, expected in zip(states(folder, "run"), whole, strict=True):
        assert torch.equal(found["bank"], expected["bank"])
        assert torch.equal(found["weight"], expected["weight"])
