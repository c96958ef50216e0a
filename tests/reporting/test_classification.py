import base64
import io

import numpy as np
import pytest
from PIL import Image

from classmates.reporting.classification import data_uri


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_shown_pixel_by_pixel(channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 4, channels)).astype(np.uint8)
    found = Image.open(io.BytesIO(base64.b64decode(data_uri(picture).removeprefix("data:image/png;base64,"))))
    assert found.mode == {1: "L", 3: "RGB"}[channels]
    np.testing.assert_array_equal(np.asarray(found).reshape(picture.shape), picture)
