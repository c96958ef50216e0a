"""What all loaders have from their base class, and images kept in memory."""

import multiprocessing

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import eval_loader, train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Shuffled, Triplets
from tests.data.batches.conftest import assert_same, by_index, in_memory, pixels, train


def test_evaluation_in_memory_changes_nothing_but_the_scale():
    data = in_memory()
    images = torch.cat([batch.images for batch in eval_loader(data, data.test, 1)])
    torch.testing.assert_close(pixels(images), data.test.images.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)


def test_training_in_memory_shifts_and_mirrors():
    data = in_memory(count=400, side=6)
    images = pixels(
        torch.cat([batch.images for batch in train(data, EpochSampler(Shuffled(), data.train.labels, 50))])
    )
    indices = torch.cat(list(map(torch.tensor, EpochSampler(Shuffled(), data.train.labels, 50))))
    originals = torch.nn.functional.pad(data.train.images[indices].permute(0, 3, 1, 2).float(), (1, 1, 1, 1))
    found = 0
    for top in range(3):
        for left in range(3):
            crop = originals[:, :, top : top + 6, left : left + 6]
            for variant in (crop, crop.flip(3)):
                same = ((images - variant).abs() < 0.01).flatten(1).all(1)
                assert 5 <= same.sum() <= 45  # 400/18 = 22 of each, within five standard deviations
                found += int(same.sum())
    assert found == 400


def test_cutout_blanks_as_much_of_every_image_and_only_in_training(data):
    side = min(data.image_size) // 2
    still = Augmentation(crop_padding=0, flip=False, cutout=side) if data.train.paths is None else Augmentation(
        flip=False, cutout=side
    )  # fmt: skip
    for batch in train(data, augmentation=still, num_workers=0):
        blank = (batch.images == 0).all(1).sum((1, 2))
        assert ((blank >= side * side // 4) & (blank <= side * side)).all()  # a corner of it at least
    plain = torch.cat([batch.images for batch in eval_loader(data, data.test, 6, num_workers=0)])
    assert (plain == 0).all(1).float().mean() < 0.01


def test_erasing_sets_a_rectangle_of_some_images_to_the_mean_and_only_in_training(data):
    still = {"flip": False, **({} if data.train.images is None else {"crop_padding": 0})}
    sampler = EpochSampler(Shuffled(), data.train.labels, 6)
    erased = 0
    for epoch in range(8):
        plain = by_index(train(data, sampler, Augmentation(**still), epoch=epoch, num_workers=0))
        changed = by_index(train(data, sampler, Augmentation(**still, erasing=0.5), epoch=epoch, num_workers=0))
        for index, image in changed.items():
            gone = (image != plain[index]).any(0)
            rows, columns = gone.any(1), gone.any(0)
            assert (image[:, gone] == 0).all()
            assert torch.equal(gone, rows[:, None] & columns)
            assert gone.float().mean() <= 0.4  # 0.33 and what rounding adds
            erased += bool(gone.any())
    assert 0.35 < erased / (8 * len(data.train)) < 0.65
    plain = torch.cat([batch.images for batch in eval_loader(data, data.test, 6, num_workers=0)])
    assert (plain == 0).all(1).float().mean() < 0.01


def test_images_come_in_the_memory_format_asked_for(data):
    for load in (
        lambda **options: train(data, augmentation=Augmentation(cutout=4), num_workers=0, **options),
        lambda **options: list(eval_loader(data, data.test, 6, num_workers=0, **options)),
    ):
        planes, pixels_first = load(), load(memory_format=torch.channels_last)
        assert_same(planes, pixels_first)
        assert all(batch.images.is_contiguous() for batch in planes)
        assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in pixels_first)


def test_the_time_waited_for_batches_is_counted_and_nothing_else(data, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("classmates.data.batches.in_memory.time.perf_counter", lambda: now[0])
    loader = train_loader(data, EpochSampler(Shuffled(), data.train.labels, 6), Augmentation(), seed=0, num_workers=0)
    make = loader.pixels

    def slowly():
        for batch in make():
            now[0] += 2.0
            yield batch

    loader.pixels = slowly
    for _ in loader:
        now[0] += 10.0  # a training step
    assert loader.waited == 2.0 * len(loader)


def test_fill_is_the_grey_of_the_border():
    data = in_memory(count=200, side=6)
    images = pixels(torch.cat([batch.images for batch in train(data, augmentation=Augmentation(fill=128))]))
    corner = images[:, :, 0, 0]
    share = ((corner - 128).abs() < 0.01).all(1).float().mean()
    assert 0.4 < share < 0.7  # 5 of 9 crops touch the corner


class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen = {}

    def training_step(self, batch):
        self.seen.setdefault(self.current_epoch, []).append(batch)
        return self.layer(batch.images.mean().view(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(("cutout", "erasing"), [(0, 0.0), (3, 0.0), (0, 0.8)])
def test_a_pass_goes_on_where_another_was_stopped(data, cutout, erasing):
    def make(**options):
        sampler = EpochSampler(Triplets(), data.train.labels, 6, seed=1)
        augmentation = Augmentation(cutout=cutout, erasing=erasing)
        loader = train_loader(data, sampler, augmentation, seed=0, num_workers=0)
        loader.set_epoch(4)
        return loader

    first, second = make(), make()
    batches = iter(first)
    given = [next(batches), next(batches)]
    iterator = iter(second)  # Lightning makes it before it says the epoch
    second.load_state_dict(first.state_dict())
    rest = list(iterator)
    whole = list(make())
    assert len(rest) == len(whole) - 2
    assert_same([*given, *rest], whole)
    assert second.state_dict() == {"given": len(whole)}
    assert_same(list(second), whole)  # the next pass is a whole one


@pytest.mark.parametrize("workers", [0, 2])
def test_where_a_pass_had_ended_the_next_is_a_whole_one(data, workers):
    sampler = EpochSampler(Shuffled(), data.train.labels, 6, seed=1)
    loader = train_loader(data, sampler, Augmentation(), seed=0, num_workers=workers)
    ended = len(list(loader))
    loader.load_state_dict({"given": ended})
    assert len(list(loader)) == ended


def test_lightning_tells_the_epoch_also_when_it_resumes(data, tmp_path):
    def fit(epochs, resume=None):
        module = Recorder()
        loader = train_loader(
            data, EpochSampler(Shuffled(), data.train.labels, 6), Augmentation(), seed=0, num_workers=2
        )
        trainer = Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, loader, ckpt_path=resume)
        trainer.save_checkpoint(tmp_path / "run.ckpt")
        assert not multiprocessing.active_children()  # no worker outlives the training
        return module.seen

    started = fit(2)
    resumed = fit(3, tmp_path / "run.ckpt")
    assert started.keys() == {0, 1}
    assert resumed.keys() == {2}
    for epoch, batches in (started | resumed).items():
        assert_same(batches, train(data, epoch=epoch, num_workers=0))
