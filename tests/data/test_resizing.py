"""Images of any shape, brought to a network's size without ever being much larger than that."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from classmates.data import resizing
from classmates.data.resizing import PackedRandomResizedCrop, crop_middle, fit, without_far_ends


@pytest.fixture
def largest(monkeypatch):
    """The most pixels that an image was resized to."""
    seen = [0]
    resize = resizing.transforms.resize

    def noting(image, size, **how):
        result = resize(image, size, **how)
        seen[0] = max(seen[0], int(np.prod(resizing.transforms.get_size(result))))
        return result

    monkeypatch.setattr(resizing.transforms, "resize", noting)
    return seen


@pytest.mark.parametrize("shape", [(1, 300_000), (300_000, 1), (2, 30_000), (5, 4_000)])
def test_long_images_are_not_enlarged_as_a_whole(largest, shape):
    pixels = torch.zeros(3, *shape, dtype=torch.uint8)
    pixels[:, shape[0] // 2, shape[1] // 2] = 255
    prepared = crop_middle(pixels, 146, (128, 128), "bilinear")
    assert prepared.shape == (3, 128, 128)
    assert prepared.max() > 0  # the middle is what is kept
    assert fit(Image.fromarray(pixels[0].numpy()), (32, 48)).size == (48, 32)
    assert largest[0] <= 146 * 146 * (resizing.LONGEST + 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_usual_images_are_as_torchvision_makes_them(interpolation):
    random = np.random.default_rng(0)
    for height, width in random.integers(20, 150, (20, 2)):
        pixels = torch.from_numpy(random.integers(0, 256, (3, height, width), dtype=np.uint8))
        expected = v2.Compose([v2.Resize(60, v2.InterpolationMode(interpolation)), v2.CenterCrop(48)])(pixels)
        assert torch.equal(crop_middle(pixels, 60, (48, 48), interpolation), expected)


def test_sizes_that_are_long_themselves_keep_what_they_need():
    image = torch.zeros(1, 4, 200, dtype=torch.uint8)
    assert without_far_ends(image, (2, 100)) is image
    assert without_far_ends(image, (2, 2)).shape == (1, 4, 8 * 4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", [v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC])
def test_packed_crops_are_torchvisions(channels, interpolation):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (60, 90, channels), dtype=torch.uint8, generator=generator).permute(2, 0, 1)
    for seed in range(5):
        made = []
        for kind in (v2.RandomResizedCrop, PackedRandomResizedCrop):
            torch.manual_seed(seed)
            made.append(kind(48, interpolation=interpolation)(image))
        assert torch.equal(*made)
        assert made[1].permute(1, 2, 0).is_contiguous()
