import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from classmates.data.augmentation import Augmentation, Draws, crop_and_flip, crop_windows, draw, normalise
from classmates.errors import UserError


def random_images(count, height, width, channels):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 9), st.integers(3, 9), st.sampled_from([1, 3]), st.integers(0, 2), st.integers(0, 255))
def test_a_batch_equals_images_cropped_one_by_one(height, width, channels, padding, fill):
    images = random_images(6, height, width, channels)
    indices = torch.tensor([5, 0, 3, 3])
    draws = draw(4, padding, True, torch.Generator().manual_seed(height))
    batch = crop_and_flip(crop_windows(images, padding, fill), indices, draws)
    assert batch.shape == (4, channels, height, width)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous()
    for image, index, top, left, mirrored in zip(batch, indices, *draws, strict=True):
        padded = transforms.pad(images[index].permute(2, 0, 1), padding, fill=fill)
        expected = padded[:, top : top + height, left : left + width]
        assert torch.equal(image, transforms.horizontal_flip(expected) if mirrored else expected)


def test_draws_cover_every_crop_evenly():
    draws = draw(9000, 1, True, torch.Generator().manual_seed(0))
    assert draws.mirrored.unique().tolist() == [0, 255]
    cells = (draws.top * 3 + draws.left) * 2 + (draws.mirrored == 255)
    assert (cells.bincount(minlength=18) - 500).abs().max() < 110  # five standard deviations
    still = draw(100, 0, False, torch.Generator().manual_seed(0))
    assert not any(column.any() for column in still)


def test_nothing_drawn_changes_nothing():
    images = random_images(3, 4, 5, 3)
    zeros = torch.zeros(3, dtype=torch.int64)
    batch = crop_and_flip(crop_windows(images, 0, 9), torch.arange(3), Draws(zeros, zeros, zeros.to(torch.uint8)))
    assert torch.equal(batch, images.permute(0, 3, 1, 2))


def test_normalise():
    images = random_images(2, 4, 5, 3).permute(0, 3, 1, 2)
    mean, std = torch.tensor([0.1, 0.5, 0.9]).view(-1, 1, 1), torch.tensor([0.2, 0.3, 1.0]).view(-1, 1, 1)
    normalised = normalise(images, mean, std)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, (images.float() / 255 - mean) / std)


def test_padding_goes_by_the_size():
    assert [Augmentation().padding((side, 40)) for side in (8, 23, 24, 32)] == [1, 1, 4, 4]
    assert Augmentation(crop_padding=0).padding((32, 32)) == 0
    assert Augmentation(crop_padding=2).padding((8, 8)) == 2


def test_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match="crop_padding is -1"):
        Augmentation(crop_padding=-1)
    with pytest.raises(UserError, match="fill is 256"):
        Augmentation(fill=256)
    with pytest.raises(UserError, match="crop_padding is 8, but the images are 8x9 pixels: give less than 8"):
        Augmentation(crop_padding=8).padding((8, 9))
