import pytest
import torch
from torchvision.transforms import v2

from classmates.contracts import Batch
from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import check_loading, eval_loader, train_loader, varies
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import InOrder, Shuffled, Triplets
from classmates.errors import UserError
from tests.data.batches.conftest import assert_same, by_index, differ, in_memory, pixels, train


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


def test_evaluation_sees_every_image_once_in_order(data):
    batches = list(eval_loader(data, data.test, 7, num_workers=0))
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(len(data.test)))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.test.labels)
    assert [len(batch.labels) for batch in batches][:-1] == [7] * (len(batches) - 1)
    assert_same(batches, list(eval_loader(data, data.test, 7, num_workers=0)))


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


def test_a_policy_changes_the_images_also_in_workers(data):
    plain, changed = (
        by_index(train(data, augmentation=Augmentation(policy=policy), num_workers=0))
        for policy in (None, "RandAugment")
    )
    assert sum(not torch.equal(plain[index], changed[index]) for index in plain) > len(plain) // 2
    with_workers = by_index(train(data, augmentation=Augmentation(policy="RandAugment"), num_workers=1))
    assert all(torch.equal(changed[index], with_workers[index]) for index in changed)


OWN = "from torchvision.transforms import v2\ndef make():\n    return v2.RandomInvert(1.0)"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_transform_of_ones_own_changes_images_of_either_kind(data, tmp_path, num_workers):
    (tmp_path / "own.py").write_text(OWN)
    plain, changed = (
        by_index(train(data, augmentation=Augmentation(policy=policy, flip=False), num_workers=num_workers))
        for policy in (None, f"{tmp_path}/own.py:make")
    )
    for index, image in plain.items():
        torch.testing.assert_close(255 - pixels(image), pixels(changed[index]), atol=1e-3, rtol=0)


def test_a_transform_of_ones_own_is_tried_before_training(data):
    own = Augmentation(policy=v2.CenterCrop(2))
    with pytest.raises(UserError, match=rf"of images of \[.*{data.image_size[0]}, .* it is to return what it gets"):
        check_loading(data, own, 0)


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
    assert check_loading(streamed, Augmentation(fill=128, policy=v2.RandomInvert()), 0) == [note]
    assert check_loading(in_memory(), Augmentation(fill=128), 0) == []
    assert_same(*(train(streamed, augmentation=Augmentation(fill=fill), num_workers=0) for fill in (0, 128)))
