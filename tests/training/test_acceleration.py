"""What "auto" becomes, and that what is chosen is what runs."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.errors import UserError
from classmates.training import acceleration
from classmates.training.acceleration import choose, device_type


@pytest.fixture
def machine(monkeypatch):
    """A machine with or without a GPU, and with or without bfloat16 in it."""

    def make(*, gpu, bfloat16):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(acceleration, "cpu_has_bfloat16", lambda: bfloat16 and not gpu)
        monkeypatch.setattr(acceleration, "cuda_has_bfloat16", lambda: bfloat16)

    return make


@pytest.mark.parametrize(
    ("gpu", "bfloat16", "pixels", "precision", "memory_format"),
    [
        (True, True, 32, "bf16-mixed", "channels_last"),
        (True, False, 224, "32-true", "contiguous"),
        (False, True, 32, "bf16-mixed", "channels_last"),
        (False, False, 32, "32-true", "channels_last"),
        (False, True, 28, "32-true", "channels_last"),
        (True, True, 8, "32-true", "contiguous"),
    ],
)
def test_auto(machine, gpu, bfloat16, pixels, precision, memory_format):
    machine(gpu=gpu, bfloat16=bfloat16)
    chosen = choose("auto", "auto", "auto", (pixels, 2 * pixels))
    assert chosen[:2] == (precision, memory_format)
    (note,) = chosen.notes
    assert note.startswith(f"precision {precision}, memory_format {memory_format}: chosen for ")


def test_what_is_given_stays(machine):
    machine(gpu=True, bfloat16=True)
    assert choose("32-true", "contiguous", "auto", (32, 32)) == ("32-true", "contiguous", [])
    assert choose("16-mixed", "auto", "gpu", (32, 32))[:2] == ("16-mixed", "channels_last")
    (note,) = choose("auto", "contiguous", "cpu", (32, 32)).notes
    assert note.startswith("precision 32-true: chosen for cpu without bfloat16")
    with pytest.raises(UserError, match="unknown memory_format 'channel_last': did you mean 'channels_last'"):
        choose("auto", "channel_last", "auto", (32, 32))


def test_which_device_it_will_be(machine):
    machine(gpu=True, bfloat16=True)
    assert [device_type(word) for word in ("auto", "gpu", "cuda", "cpu", "tpu")] == ["cuda"] * 3 + ["cpu", "tpu"]
    machine(gpu=False, bfloat16=True)
    assert device_type("auto") == "cpu"
    assert choose("auto", "auto", "tpu", (32, 32))[:2] == ("32-true", "contiguous")


class Witness(Callback):
    """Notes what the first step runs in."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        weights = [weight for weight in module.method.student().parameters() if weight.ndim == 4]
        self.channels_last = all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
        self.autocast = trainer.precision
        self.fused = trainer.optimizers[0].param_groups[0].get("fused")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_what_is_chosen_is_what_runs(small_train, tmp_path, precision):
    witness = Witness()
    result = small_train(
        out=tmp_path, epochs=1, precision=precision, memory_format="channels_last", callbacks=[witness]
    )
    assert (witness.channels_last, witness.autocast, witness.fused) == (True, precision, True)
    assert all(parameter.is_contiguous() for parameter in result.student.parameters())
    assert result.record.config["memory_format"] == "channels_last"
    assert not any("chosen for" in note for note in result.record.notes)


def test_the_record_holds_what_auto_became(small_train, tmp_path):
    result = small_train(out=tmp_path, epochs=1)
    assert result.record.config["precision"] == "32-true"
    assert result.record.config["memory_format"] == "channels_last"
    assert any("chosen for cpu and images below 32 pixels" in note for note in result.record.notes)
