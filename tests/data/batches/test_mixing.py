"""Mixed batches: every image of two, and what they are of said by the targets."""

import pytest
import torch

from classmates.contracts import Batch
from classmates.data.augmentation import Augmentation
from classmates.data.batches.mixing import mix

BATCH = Batch(
    torch.randn(6, 3, 12, 10, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 2, 1, 3, 3, 0]),
    torch.arange(6),
)


def mixed(seed=0, batch=BATCH, **alphas):
    torch.manual_seed(seed)
    return mix(batch, 4, Augmentation(**alphas))


def shares(batch):
    """Return the share that each image has kept, by its own class, of those whose partner is of another."""
    other = batch.labels != batch.labels.roll(1)
    return batch.targets.gather(1, batch.labels[:, None])[other, 0]


@pytest.mark.parametrize("alphas", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_targets_are_the_shares_of_the_classes(alphas):
    for seed in range(20):
        batch = mixed(seed, **alphas)
        share = shares(batch)
        assert batch.targets.shape == (6, 4)
        assert batch.targets.dtype == torch.float32
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(6))
        torch.testing.assert_close(share, share[:1].expand_as(share))
        assert batch.labels is BATCH.labels
        assert batch.indices is BATCH.indices
        assert batch.images.shape == BATCH.images.shape


def test_mixup_blends_each_image_with_the_one_before_it():
    batch = mixed(mixup=1.0)
    share = shares(batch)[0]
    assert 0 < share < 1
    torch.testing.assert_close(batch.images, share * BATCH.images + (1 - share) * BATCH.images.roll(1, 0))


def test_cutmix_puts_a_rectangle_of_another_image_in():
    batch = mixed(cutmix=1.0)
    cut = (batch.images != BATCH.images).any(1)
    assert torch.equal(cut, cut[:1].expand_as(cut))
    torch.testing.assert_close(batch.images, torch.where(cut[:, None], BATCH.images.roll(1, 0), BATCH.images))
    torch.testing.assert_close(shares(batch)[0], 1 - cut[0].float().mean())


def test_with_both_one_is_drawn_for_each_batch():
    blended = [bool((mixed(seed, mixup=1.0, cutmix=1.0).images != BATCH.images).all()) for seed in range(60)]
    assert 15 < sum(blended) < 45


def test_the_global_random_state_decides():
    both = {"mixup": 0.5, "cutmix": 0.5}
    assert torch.equal(mixed(3, **both).images, mixed(3, **both).images)
    assert not torch.equal(mixed(3, **both).images, mixed(4, **both).images)


def test_nothing_is_mixed_unless_asked_for():
    before = torch.get_rng_state()
    assert mix(BATCH, 4, Augmentation(cutout=2, erasing=0.5)) is BATCH
    assert torch.equal(before, torch.get_rng_state())


def test_the_memory_format_stays():
    last = BATCH._replace(images=BATCH.images.contiguous(memory_format=torch.channels_last))
    for alphas in ({"mixup": 1.0}, {"cutmix": 1.0}):
        assert mixed(batch=last, **alphas).images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("alphas", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_all_views_are_mixed_alike(alphas):
    views = BATCH.images.flip(3), BATCH.images + 1, BATCH.images
    several = mixed(batch=BATCH._replace(views=views), **alphas)
    assert several.views[-1] is several.images
    for view, mixture in zip(views, several.views, strict=True):
        alone = mixed(batch=BATCH._replace(images=view), **alphas)
        torch.testing.assert_close(mixture, alone.images)
        assert torch.equal(several.targets, alone.targets)
