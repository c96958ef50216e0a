"""A training with a sharded bank: several processes make what one makes, and any number goes on from a checkpoint."""

import subprocess
import sys
import textwrap

import pytest
import torch

from classmates.training.checkpoints import load_checkpoint

pytestmark = pytest.mark.long

SCRIPT = """
    import sys
    from functools import partial
    from pathlib import Path
    import torch
    from lightning.pytorch.accelerators import CPUAccelerator
    from lightning.pytorch.callbacks import Callback
    from torch import nn
    from classmates import MCL, train

    class Stop(Exception):
        pass

    class Witness(Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == int(sys.argv[3]):
                raise Stop

        def on_train_start(self, trainer, module):
            rows = module.method.contrast.bank.rows.clone()
            torch.save(rows, Path(FOLDER) / f"{sys.argv[1]}-from{trainer.current_epoch}-{trainer.global_rank}.pt")

        def on_train_end(self, trainer, module):
            bank = module.method.contrast.bank
            torch.save(bank.rows, Path(FOLDER) / f"{sys.argv[1]}-{trainer.global_rank}of{trainer.world_size}.pt")

    def network():  # without BatchNorm, whose statistics are of a process's own images
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Conv2d(inputs, 6, 3, stride=2, padding=1), nn.ReLU()) for inputs in (1, 6, 6)]
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))

    if __name__ == "__main__":
        name, devices, until, kind = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
        CPUAccelerator.auto_device_count = staticmethod(lambda: devices)  # as on a machine with so many GPUs
        out = Path(FOLDER) / name
        try:
            train(data="digits", model=network(), train_size=60, batch_size=20, epochs=3, lr=0.02, keep="best",
                  method=partial(MCL, peers=2, share="nothing", num_negatives=8, dimension=8, negatives="all", beta=1,
                                 bank=kind),
                  accelerator="cpu", devices="auto", strategy="ddp", num_workers=0,
                  precision="32-true", memory_format="contiguous",
                  loggers=(), report=False, progress=False, out=out, callbacks=[Witness()],
                  resume=(out / "checkpoints" / "last.ckpt").exists())
        except Stop:
            sys.exit(5)
"""


@pytest.fixture
def trained(tmp_path):
    """Train in processes of their own; return the last checkpoint."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("FOLDER", repr(str(tmp_path))))

    def run(name, devices, until=9, kind="sharded"):
        command = [sys.executable, str(script), name, str(devices), str(until), kind]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert ended.returncode == (0 if until == 9 else 5), ended.stderr
        return load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")

    return run


def test_any_number_of_processes_goes_on_and_makes_what_one_makes(trained, tmp_path):
    kept = trained("run", 4, until=1)
    for devices, epoch, until in ((1, 1, 2), (2, 2, 9)):
        assert kept["epoch"] == epoch - 1
        rows = kept["state_dict"]["method.contrast.bank.rows"]
        kept = trained("run", devices, until)
        for rank in range(devices):
            assert torch.equal(torch.load(tmp_path / f"run-from{epoch}-{rank}.pt"), rows[:, rank::devices])
    rows = kept["state_dict"]["method.contrast.bank.rows"]
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"run-{rank}of2.pt"), rows[:, rank::2])
    whole = trained("one", 1, kind="whole")["state_dict"]
    assert whole.keys() == kept["state_dict"].keys()
    for name, value in whole.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(kept["state_dict"][name], value, rtol=1e-3, atol=1e-5, msg=name)
