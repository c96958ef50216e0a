"""Two processes on one machine: one run, one record, each sample in one process only, banks that stay equal."""

import json
import subprocess
import sys
import textwrap

import pandas as pd

SCRIPT = """
    from functools import partial
    from pathlib import Path
    import torch
    from lightning.pytorch.callbacks import Callback
    from classmates import MCL, train

    class Witness(Callback):
        def __init__(self):
            self.seen = []

        def on_train_start(self, trainer, module):
            wrapped = trainer.strategy.model
            self.sent = sorted(wrapped.named_module_buffers)

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.seen += batch.indices.tolist()

        def on_train_end(self, trainer, module):
            method = module.method
            state = {"seen": self.seen, "sent": self.sent, "bank": method.contrast.bank.rows}
            state["weight"] = method.student().fc.weight.data
            torch.save(state, Path(FOLDER) / f"rank{trainer.global_rank}.pt")

    if __name__ == "__main__":
        train(data="digits", model="resnet8", method=partial(MCL, peers=2, num_negatives=8, dimension=8),
              train_size=60, batch_size=20, epochs=1, val_fraction=0, accelerator="cpu", devices=2, strategy="ddp",
              loggers=(), report=False, progress=False, out=Path(FOLDER) / "run", callbacks=[Witness()])
"""


def test_two_processes_make_one_run(tmp_path):
    import torch

    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("FOLDER", repr(str(tmp_path))))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ended.returncode == 0, ended.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert not set(first["seen"]) & set(second["seen"])
    assert sorted(first["seen"] + second["seen"]) == list(range(60))
    assert torch.equal(first["bank"], second["bank"])
    assert any(name.endswith("running_mean") for name in first["sent"])
    assert "method.contrast.log_mean" in first["sent"]
    assert not any(name.startswith(("method.contrast.bank.", "method.contrast.classes.")) for name in first["sent"])
    assert torch.equal(first["weight"], second["weight"])
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["training"]["steps"] == 3
    assert record["test"]["student"]["top1"]["count"] == 797
    assert len(pd.read_csv(tmp_path / "run" / "metrics.csv")) == 1
