"""Images in pages."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from classmates.reporting.pictures import data_uri


def opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_shown_pixel_by_pixel(channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 4, channels)).astype(np.uint8)
    found = opened(data_uri(picture))
    assert found.mode == {1: "L", 3: "RGB"}[channels]
    np.testing.assert_array_equal(np.asarray(found).reshape(picture.shape), picture)


@pytest.mark.parametrize(("shape", "size"), [((200, 100, 3), (48, 96)), ((96, 96, 3), (96, 96)), ((8, 5, 1), (5, 8))])
def test_large_ones_are_made_smaller_and_no_others(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    picture = np.full(shape, 77, np.uint8)
    found = opened(data_uri(picture, longest=96))
    assert found.size == size  # width, height
    assert (np.asarray(found) == 77).all()
