import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from classmates.data.augmentation import (
    Augmentation,
    Draws,
    crop_and_flip,
    cut_out,
    draw,
    erase,
    normalise,
    pad,
)
from classmates.errors import UserError


def random_images(count, height, width, channels):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


@settings(max_examples=60)
@given(
    st.integers(3, 9),
    st.integers(3, 9),
    st.sampled_from([1, 3]),
    st.integers(0, 2),
    st.sampled_from([("constant", 0), ("constant", 128), ("constant", 255), ("reflect", 0)]),
)
def test_a_batch_equals_images_cropped_one_by_one(height, width, channels, padding, border):
    mode, fill = border
    images = random_images(6, height, width, channels)
    indices = torch.tensor([5, 0, 3, 3])
    draws = draw(4, padding, True, torch.Generator().manual_seed(height))
    batch = crop_and_flip(pad(images, padding, mode, fill), (height, width), indices, draws)
    assert batch.shape == (4, height, width, channels)
    assert batch.dtype == torch.uint8
    for image, index, top, left, mirrored in zip(batch, indices, *draws, strict=True):
        padded = transforms.pad(images[index].permute(2, 0, 1), padding, fill=fill, padding_mode=mode)
        expected = padded[:, top : top + height, left : left + width]
        assert torch.equal(image.permute(2, 0, 1), transforms.horizontal_flip(expected) if mirrored else expected)


def test_draws_cover_every_crop_evenly():
    draws = draw(9000, 1, True, torch.Generator().manual_seed(0))
    cells = (draws.top * 3 + draws.left) * 2 + draws.mirrored
    assert (cells.bincount(minlength=18) - 500).abs().max() < 110  # five standard deviations
    still = draw(100, 0, False, torch.Generator().manual_seed(0))
    assert not any(column.any() for column in still)


def test_nothing_drawn_changes_nothing_and_copies_nothing():
    images = random_images(3, 4, 5, 3)
    zeros = torch.zeros(3, dtype=torch.int64)
    padded = pad(images, 0, "constant", 9)
    assert padded.data_ptr() == images.data_ptr()
    assert torch.equal(crop_and_flip(padded, (4, 5), torch.arange(3), Draws(zeros, zeros, zeros.bool())), images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalise(channels, memory_format):
    images = random_images(2, 4, 5, channels)
    mean, std = torch.tensor([0.1, 0.5, 0.9])[:channels], torch.tensor([0.2, 0.3, 1.0])[:channels]
    normalised = normalise(images, mean, std, memory_format)
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(normalised.permute(0, 2, 3, 1), (images.float() / 255 - mean) / std)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("side", "middle", "rows", "columns"),
    [
        (4, (0.5, 0.5), range(4, 8), range(3, 7)),  # pixel 6 of 12 and 5 of 10, from two before to one after
        (3, (0.5, 0.5), range(5, 8), range(4, 7)),
        (4, (0.0, 0.99), range(2), range(7, 10)),  # beyond the edge
        (1, (0.999, 0.0), range(11, 12), range(1)),
    ],
)
def test_cutout_blanks_a_square(side, middle, rows, columns, memory_format):
    images = torch.ones(2, 3, 12, 10).to(memory_format=memory_format)
    cut_out(images, side, torch.tensor([middle, (0.5, 0.5)]))
    for row in range(12):
        for column in range(10):
            assert (images[0, :, row, column] == (row not in rows or column not in columns)).all()
    assert (images[1] == 0).sum() == 3 * side * side


def test_cutout_reaches_every_pixel_as_often_as_it_should():
    images = torch.ones(4000, 1, 8, 8)
    cut_out(images, 3, torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)))
    share = (images == 0).float().mean(0)[0]
    inside = 9 / 64
    assert (share[1:-1, 1:-1] - inside).abs().max() < 0.028  # five standard deviations
    assert abs(share[0, 0] - 4 / 64) < 0.02


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_erased_is_drawn_by_position(memory_format):
    images = torch.ones(40, 3, 12, 10).to(memory_format=memory_format)
    before = torch.get_rng_state()
    erased = images.clone()
    chosen = torch.arange(40) != 7
    erase(erased, chosen, torch.arange(40), 3, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal((erased == 0).any(3).any(2).any(1), chosen)
    some = images[5:9].clone()
    erase(some, chosen[5:9], torch.arange(5, 9), 3, 1)
    assert torch.equal(some, erased[5:9])
    assert len(erased.unique(dim=0)) > 20  # each its own rectangle


def test_padding_goes_by_the_size():
    assert [Augmentation().padding((side, 40)) for side in (1, 2, 8, 23, 24, 32)] == [0, 1, 1, 1, 4, 4]
    assert Augmentation(crop_padding=0).padding((32, 32)) == 0
    assert Augmentation(crop_padding=2).padding((8, 8)) == 2


def test_settings_out_of_range_are_refused():
    for settings_, message in [
        ({"crop_padding": -1}, "crop_padding is -1"),
        ({"fill": 256}, "fill is 256"),
        ({"cutout": -2}, "cutout is -2"),
        ({"padding_mode": "reflct"}, "unknown padding_mode 'reflct': did you mean 'reflect'"),
        ({"policy": "RandAugmnt"}, "unknown policy 'RandAugmnt': did you mean 'RandAugment'"),
        (
            {"policy": len},
            "policy is a builtin_function_or_method; give a transform of torchvision.transforms",
        ),
        ({"crop_scale": 0.0}, r"crop_scale is 0\.0; give a share of the image above 0 and up to 1"),
        ({"crop_scale": 1.1}, r"crop_scale is 1\.1"),
        ({"erasing": 1.5}, r"erasing is 1\.5; give a probability"),
        ({"mixup": -0.1}, r"mixup is -0\.1; give 0"),
        ({"cutmix": float("nan")}, "cutmix is nan"),
    ]:
        with pytest.raises(UserError, match=message):
            Augmentation(**settings_)
    with pytest.raises(UserError, match="crop_padding is 8, but the images are 8x9 pixels: give less than 8"):
        Augmentation(crop_padding=8).padding((8, 9))
    with pytest.raises(UserError, match="cutout is 8, but the images are 8x9 pixels: give less than 8"):
        Augmentation(cutout=8).require_room_for_cutout((8, 9))
