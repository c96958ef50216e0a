"""A run that goes on with other images than it began with is refused, and the part that has changed is named."""

import shutil

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from classmates.errors import UserError
from classmates.training.train import train
from tests.training.conftest import SMALL


class StopAfterOneEpoch(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def photo(path, number, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(256, (size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
    Image.fromarray(pixels.numpy()).save(path)


def run(folder, size, **more):
    settings = {"train_size": None, "image_size": size, "batch_size": 8, "epochs": 2, "num_workers": 0}
    return train(**SMALL | settings | {"data": str(folder), **more})


@pytest.fixture(scope="module", params=[8, 70], ids=["in memory", "streamed"])
def begun(request, tmp_path_factory):
    """A folder with photos, "photos", a copy of them, "kept", and a run, "run", that was stopped after one epoch."""
    size, number, folder = request.param, 0, tmp_path_factory.mktemp("begun")
    for part, count in (("train", 12), ("val", 4), ("test", 4)):
        for name in ("cat", "dog"):
            for _ in range(count):
                number += 1
                photo(folder / "photos" / part / name / f"{number}.png", number, size)
    shutil.copytree(folder / "photos", folder / "kept")
    with pytest.raises(KeyboardInterrupt):
        run(folder / "photos", size, out=folder / "run", callbacks=[StopAfterOneEpoch()])
    return folder, size


@pytest.fixture
def stopped(begun, tmp_path):
    """What goes on with a copy of that run, "run"; the photos' folder, with all of them as they were; their size."""
    folder, size = begun
    photos = folder / "photos"
    shutil.rmtree(photos)
    shutil.copytree(folder / "kept", photos)
    shutil.copytree(folder / "run", tmp_path / "run")
    return lambda: run(photos, size, out=tmp_path / "run", resume=True), photos, size


def test_the_same_images_go_on(stopped):
    go_on, folder, _ = stopped
    shutil.copytree(folder, folder.parent / "copy")
    shutil.rmtree(folder)
    (folder.parent / "copy").rename(folder)
    assert go_on().record.training.epochs == 2


@pytest.mark.parametrize(("part", "named"), [("train", "training"), ("val", "validation"), ("test", "test")])
def test_a_part_that_has_changed_is_named(stopped, part, named):
    go_on, folder, size = stopped
    photo(next((folder / part / "cat").iterdir()), 999, size)
    photo(folder / part / "dog" / "new.png", 1000, size)
    with pytest.raises(UserError, match=f"the {named} images are not those that the run began with: put them back"):
        go_on()


def test_checkpoints_of_before_are_gone_on_with(stopped, tmp_path):
    go_on, _, _ = stopped
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["callbacks"]["SameImages"]
    torch.save(checkpoint, last)
    assert go_on().record.training.epochs == 2
