import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as transforms

from classmates.contracts import Batch
from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import check_loading, eval_loader, train_loader, varies
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import InOrder, Shuffled, Triplets
from classmates.data.parts import ImageData, Split
from classmates.errors import UserError

MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.25, 0.2)


def in_memory(count=30, side=8, flip=True):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    split = Split(torch.arange(count) % 3, images, class_names=("a", "b", "c"))
    return ImageData("random", 3, (side, side), MEAN, STD, split, None, split, flip=flip)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(18):
        height, width = generator.integers(60, 90, 2)
        pixels = generator.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).resize((int(width), int(height))).save(paths[-1])
    split = Split(torch.arange(18) % 3, paths=tuple(paths), class_names=("a", "b", "c"))
    return ImageData("files", 3, (48, 48), MEAN, STD, split, None, split)


def train(data, sampler=None, augmentation=Augmentation(), epoch=0, seed=0, **options):
    loader = train_loader(
        data, sampler or EpochSampler(Shuffled(), data.train.labels, 6), augmentation, seed=seed, **options
    )
    loader.set_epoch(epoch)
    return list(loader)


def pixels(images):
    """Back to 0..255."""
    return (images * torch.tensor(STD).view(-1, 1, 1) + torch.tensor(MEAN).view(-1, 1, 1)) * 255


def by_index(batches):
    return {int(index): image for batch in batches for index, image in zip(batch.indices, batch.images, strict=True)}


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.targets is other.targets is None
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch[:3], other[:3], strict=True))


def differ(batches, others):
    return any(not torch.equal(batch.images, other.images) for batch, other in zip(batches, others, strict=True))


@pytest.fixture(params=["memory", "files"])
def data(request, streamed):
    return streamed if request.param == "files" else in_memory()


def test_batches_carry_labels_and_indices(data):
    sampler = EpochSampler(Shuffled(), data.train.labels, 7, seed=1)
    batches = train(data, sampler, epoch=2, num_workers=0)
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [batch.indices.tolist() for batch in batches] == list(sampler)
    for batch in batches:
        assert batch.images.shape == (len(batch.indices), *data.input_shape)
        assert batch.images.dtype == torch.float32
        assert torch.equal(batch.labels, data.train.labels[batch.indices])
    loader = train_loader(data, sampler, Augmentation(), seed=0, num_workers=0)
    assert len(loader) == len(batches)


def test_seed_and_epoch_alone_decide_the_images(data):
    first = train(data, epoch=1, num_workers=0)
    torch.manual_seed(123)
    assert_same(first, train(data, epoch=1, num_workers=0))
    assert differ(first, train(data, epoch=2, num_workers=0))
    again = train(data, epoch=1, seed=9, num_workers=0)
    assert [batch.indices.tolist() for batch in again] == [batch.indices.tolist() for batch in first]
    assert differ(first, again)


def test_the_same_order_is_varied_anew_in_every_epoch(data):
    first, second = (
        train(data, EpochSampler(InOrder(), data.train.labels, 6), epoch=epoch, num_workers=0) for epoch in (0, 1)
    )
    assert all(torch.equal(batch.indices, other.indices) for batch, other in zip(first, second, strict=True))
    assert differ(first, second)


def test_the_programs_own_random_numbers_are_left_alone(data):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    train(data, num_workers=0)
    list(eval_loader(data, data.test, 5, num_workers=0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(cutout=4, policy="TrivialAugmentWide"), Augmentation(erasing=0.7)],
)
def test_batch_size_and_processes_do_not_change_an_image(data, augmentation):
    labels = data.train.labels
    options = {"augmentation": augmentation, "num_workers": 0}
    alone = by_index(train(data, EpochSampler(Shuffled(), labels, 6), **options))
    other = by_index(train(data, EpochSampler(Shuffled(), labels, 9), **options))
    shared = {}
    for rank in (0, 1):
        shared |= by_index(train(data, EpochSampler(Shuffled(), labels, 6, rank=rank, world_size=2), **options))
    assert alone.keys() == other.keys() == shared.keys() == set(range(len(labels)))
    for index, image in alone.items():
        assert torch.equal(image, other[index])
        assert torch.equal(image, shared[index])


def test_an_image_drawn_twice_is_varied_anew(data):
    batches = train(data, EpochSampler(Triplets(disjoint=False), data.train.labels, 6), num_workers=0)
    images = torch.cat([batch.images for batch in batches])
    indices = torch.cat([batch.indices for batch in batches])
    twice = [images[indices == index] for index in range(len(data.train))]
    assert all(len(copies) >= 1 for copies in twice)
    assert sum(len(copies.unique(dim=0)) > 1 for copies in twice) > len(twice) // 2


def test_workers_do_not_change_an_image_nor_do_they_miss_the_epoch(streamed):
    sampler = EpochSampler(Triplets(), streamed.train.labels, 6, seed=2)
    alone, helped = (
        train_loader(streamed, sampler, Augmentation(), seed=4, num_workers=workers) for workers in (0, 2)
    )
    for epoch in (0, 3, 0):  # the same workers live on
        sampler.set_epoch(epoch)
        assert_same(list(alone), list(helped))


def test_evaluation_sees_every_image_once_in_order(data):
    batches = list(eval_loader(data, data.test, 7, num_workers=0))
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(len(data.test)))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.test.labels)
    assert [len(batch.labels) for batch in batches][:-1] == [7] * (len(batches) - 1)
    assert_same(batches, list(eval_loader(data, data.test, 7, num_workers=0)))


def test_evaluation_in_memory_changes_nothing_but_the_scale():
    data = in_memory()
    images = torch.cat([batch.images for batch in eval_loader(data, data.test, 1)])
    torch.testing.assert_close(pixels(images), data.test.images.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_from_files_takes_the_middle(streamed, interpolation):
    streamed = replace(streamed, interpolation=interpolation)
    [batch] = eval_loader(streamed, streamed.test, 100, num_workers=0)
    for image, path in zip(batch.images, streamed.test.paths, strict=True):
        resized = transforms.resize(Image.open(path), [55], InterpolationMode(interpolation))  # 48 · 256/224
        expected = transforms.pil_to_tensor(transforms.center_crop(resized, [48, 48]))
        # torchvision resizes tensors as Pillow does images, but for the rounding
        torch.testing.assert_close(pixels(image), expected.float(), atol=1.001, rtol=0)


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


@pytest.mark.parametrize(
    ("augmentation", "varied"),
    [
        (Augmentation(), True),
        (Augmentation(crop_padding=0), True),  # mirrored
        (Augmentation(crop_padding=0, flip=False), False),
        (Augmentation(crop_padding=0, flip=False, cutout=2), True),
        (Augmentation(crop_padding=0, flip=False, policy="RandAugment"), True),
        (Augmentation(crop_padding=0, flip=False, erasing=0.5), True),
    ],
)
def test_it_is_known_whether_images_vary(augmentation, varied):
    data = in_memory()
    assert varies(data, augmentation) == varied
    assert (
        differ(
            *(
                train(data, EpochSampler(InOrder(), data.train.labels, 30), augmentation, epoch=epoch)
                for epoch in (0, 1)
            )
        )
        == varied
    )


def test_files_always_vary_and_so_do_images_that_will_be_mixed(streamed):
    assert varies(streamed, Augmentation(flip=False))
    for option in ("mixup", "cutmix"):
        assert varies(in_memory(), Augmentation(crop_padding=0, flip=False, **{option: 0.5}))


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


def test_crops_of_files_keep_the_share_and_the_interpolation_asked_for(streamed, monkeypatch):
    made = []
    crop = v2.RandomResizedCrop

    def remember(*args, **options):
        made.append(crop(*args, **options))
        return made[-1]

    monkeypatch.setattr("classmates.data.batches.loaders.v2.RandomResizedCrop", remember)
    usual = train(streamed, num_workers=0)
    mild = train(replace(streamed, interpolation="bicubic"), augmentation=Augmentation(crop_scale=0.6), num_workers=0)
    assert differ(usual, mild)
    assert [each.scale for each in made] == [(0.08, 1.0), (0.6, 1.0)]
    assert [each.interpolation.value for each in made] == ["bilinear", "bicubic"]
    assert_same(usual, train(streamed, augmentation=Augmentation(crop_scale=0.08), num_workers=0))


def test_a_policy_changes_the_images_also_in_workers(data):
    plain, changed = (
        by_index(train(data, augmentation=Augmentation(policy=policy), num_workers=0))
        for policy in (None, "RandAugment")
    )
    assert sum(not torch.equal(plain[index], changed[index]) for index in plain) > len(plain) // 2
    with_workers = by_index(train(data, augmentation=Augmentation(policy="RandAugment"), num_workers=1))
    assert all(torch.equal(changed[index], with_workers[index]) for index in changed)


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


@pytest.mark.parametrize(("of_data", "asked", "mirrored"), [(True, None, True), (False, None, False)] + [
    (of_data, asked, asked) for of_data in (True, False) for asked in (True, False)
])  # fmt: skip
def test_images_are_mirrored_where_data_or_user_say_so(of_data, asked, mirrored, streamed):
    data = in_memory(flip=of_data)
    augmentation = Augmentation(crop_padding=0, flip=asked)
    seen = by_index(train(data, augmentation=augmentation))
    plain = by_index(eval_loader(data, data.train, 30))
    changed = sum(not torch.equal(seen[index], plain[index]) for index in plain)
    assert changed > 5 if mirrored else changed == 0
    symmetric = streamed.__class__(**{**vars(streamed), "flip": of_data})
    asked_for = train(symmetric, augmentation=Augmentation(flip=asked), num_workers=0)
    assert differ(asked_for, train(symmetric, augmentation=Augmentation(flip=not mirrored), num_workers=0))
    assert_same(asked_for, train(symmetric, augmentation=Augmentation(flip=mirrored), num_workers=0))


def test_fill_is_the_grey_of_the_border():
    data = in_memory(count=200, side=6)
    images = pixels(torch.cat([batch.images for batch in train(data, augmentation=Augmentation(fill=128))]))
    corner = images[:, :, 0, 0]
    share = ((corner - 128).abs() < 0.01).all(1).float().mean()
    assert 0.4 < share < 0.7  # 5 of 9 crops touch the corner


def test_grey_files_have_one_channel(streamed):
    grey = ImageData("grey", 1, (48, 48), (0.5,), (0.2,), streamed.train, None, streamed.test)
    [batch] = eval_loader(grey, grey.test, 100, num_workers=0)
    assert batch.images.shape == (18, 1, 48, 48)
    assert train(grey, num_workers=0)[0].images.shape == (6, 1, 48, 48)


def test_settings_that_cannot_apply_are_refused(streamed):
    sampler = EpochSampler(Shuffled(), streamed.train.labels, 6)
    for augmentation in (Augmentation(crop_padding=4), Augmentation(padding_mode="reflect")):
        with pytest.raises(UserError, match="crop_padding and padding_mode are for images kept in memory"):
            train_loader(streamed, sampler, augmentation, seed=0)
    with pytest.raises(UserError, match="cutout is 48, but the images are 48x48"):
        train_loader(streamed, sampler, Augmentation(cutout=48), seed=0)
    for data in (streamed, in_memory(18)):
        with pytest.raises(UserError, match="num_workers is -1"):
            train_loader(data, sampler, Augmentation(), seed=0, num_workers=-1)
        with pytest.raises(UserError, match="num_workers is -1"):
            eval_loader(data, data.test, 6, num_workers=-1)
    with pytest.raises(UserError, match="crop_padding is 8, but the images are 8x8"):
        check_loading(in_memory(), Augmentation(crop_padding=8), 0)
    with pytest.raises(ValueError, match="the sampler is for 5 images, the split has 18"):
        train_loader(streamed, EpochSampler(Shuffled(), torch.zeros(5), 2), Augmentation(), seed=0)
    with pytest.raises(UserError, match=r"crop_scale is 0\.5, but it is for images read from files"):
        check_loading(in_memory(), Augmentation(crop_scale=0.5), 0)


def test_a_grey_without_effect_is_noted(streamed):
    note = "fill 128 has no effect: images larger than 64 pixels are cropped without padding"
    assert check_loading(streamed, Augmentation(fill=128), 0) == [note]
    assert check_loading(streamed, Augmentation(fill=128, policy="RandAugment"), 0) == []
    assert check_loading(in_memory(), Augmentation(fill=128), 0) == []
    assert_same(*(train(streamed, augmentation=Augmentation(fill=fill), num_workers=0) for fill in (0, 128)))


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


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_files_passed_over_are_not_read(streamed, num_workers, world_size):
    sampler = EpochSampler(Shuffled(), streamed.train.labels, 4, seed=1, world_size=world_size, rank=world_size - 1)
    left = list(sampler)[3:]
    wanted = {index for batch in left for index in batch}
    paths = tuple(path if i in wanted else path / "gone" for i, path in enumerate(streamed.train.paths))
    data = replace(streamed, train=Split(streamed.train.labels, paths=paths))
    loader = train_loader(data, sampler, Augmentation(), seed=0, num_workers=num_workers)
    loader.load_state_dict({"given": 3})
    assert [batch.indices.tolist() for batch in loader] == left


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
