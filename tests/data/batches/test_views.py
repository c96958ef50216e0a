"""Several augmentations of each image in one batch, each with draws of its own."""

import torch

from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Shuffled
from tests.data.batches.conftest import assert_same, in_memory, train

ALL = {"cutout": 3, "erasing": 0.5, "policy": "TrivialAugmentWide"}
"""Every augmentation that draws numbers."""


def viewed(data, views=3, **options):
    return train(data, **{"views": views, "num_workers": 0, "augmentation": Augmentation(**ALL), **options})


def test_the_last_view_is_what_a_loader_without_views_gives(data):
    plain, several = viewed(data, views=1), viewed(data)
    assert_same(plain, several)
    assert all(batch.views == () for batch in plain)
    assert all(len(batch.views) == 3 and batch.views[-1] is batch.images for batch in several)
    fewer = viewed(data, views=2)
    for batch, other in zip(several, fewer, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch.views[1:], other.views, strict=True))


def test_each_kind_of_draw_differs_from_view_to_view(data):
    still = {"flip": False, **({} if data.train.images is None else {"crop_padding": 0})}
    kinds = [{"cutout": 3}, {"erasing": 1.0}, {"policy": "TrivialAugmentWide"}, {"flip": True}]
    for options in kinds if data.train.images is not None else [{}]:  # those of files are always cropped
        batch = viewed(data, augmentation=Augmentation(**{**still, **options}))[0]
        first, second, third = batch.views
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)


def test_views_are_of_the_same_samples():
    data = in_memory()
    batches = viewed(data, augmentation=Augmentation(crop_padding=0, flip=False))
    assert all(torch.equal(view, batch.images) for batch in batches for view in batch.views)


def test_views_are_drawn_anew_every_epoch_and_do_not_hang_on_processes_or_workers(data):
    assert not torch.equal(viewed(data)[0].views[0], viewed(data, epoch=1)[0].views[0])
    whole = viewed(data)
    halves = [
        viewed(data, sampler=EpochSampler(Shuffled(), data.train.labels, 6, rank=rank, world_size=2))
        for rank in (0, 1)
    ]
    for batch, first, second in zip(whole, *halves, strict=True):
        for view, mine, others in zip(batch.views, first.views, second.views, strict=True):
            assert torch.equal(view[0::2], mine)
            assert torch.equal(view[1::2], others)
    if data.train.images is None:
        for batch, other in zip(whole, viewed(data, num_workers=1), strict=True):
            assert all(map(torch.equal, batch.views, other.views))


def test_a_pass_that_goes_on_has_the_views_that_it_would_have_had(data):
    def make():
        sampler = EpochSampler(Shuffled(), data.train.labels, 6)
        return train_loader(data, sampler, Augmentation(**ALL), seed=0, views=2, num_workers=0)

    goes_on = make()
    goes_on.load_state_dict({"given": 2})
    for batch, other in zip(list(make())[2:], goes_on, strict=True):
        assert all(map(torch.equal, batch.views, other.views))


def test_views_come_in_the_memory_format_asked_for(data):
    for batch in viewed(data, memory_format=torch.channels_last):
        assert all(view.is_contiguous(memory_format=torch.channels_last) for view in batch.views)
