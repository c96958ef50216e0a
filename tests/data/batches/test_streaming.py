import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from classmates.data.batches.streaming import decode_fast, use_any_core
from classmates.data.parts import Encoded
from classmates.data.readers.images import UnreadableImage, decode

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((75, 52))


def with_orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return {"exif": exif}


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (PICTURE, {"quality": 90}),
        (PICTURE, {"subsampling": 2, "progressive": True}),
        (PICTURE.convert("L"), {}),
        (PICTURE.convert("CMYK"), {"quality": 95}),
        *((PICTURE, with_orientation(number)) for number in range(1, 9)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_fast_decoder_gives_what_the_other_does(tmp_path, image, options, channels):
    path = tmp_path / "ein Bild 猫.jpg"
    image.save(path, **options)
    expected = transforms.pil_to_tensor(decode(path, channels))
    assert torch.equal(decode_fast(path, channels), expected)
    assert torch.equal(decode_fast(Encoded("row 1", path.read_bytes()), channels), expected)


def test_other_formats_and_decoded_images_are_read_as_well(tmp_path):
    PICTURE.save(tmp_path / "picture.png")
    expected = transforms.pil_to_tensor(PICTURE)
    assert torch.equal(decode_fast(tmp_path / "picture.png", 3), expected)
    assert torch.equal(decode_fast(PICTURE, 3), expected)


def test_a_jpeg_cut_off_is_named(tmp_path):
    path = tmp_path / "cut.jpg"
    PICTURE.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableImage, match=r"cannot read the image .*cut\.jpg"):
        decode_fast(path, 3)


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    with pytest.raises(UnreadableImage, match=r"image .*link\.jpg: it is a link to gone\.jpg, which does not exist"):
        decode_fast(tmp_path / "link.jpg", 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no core affinity")
def test_workers_leave_the_core_that_openmp_has_bound_them_to(monkeypatch):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        monkeypatch.delenv("OMP_PROC_BIND", raising=False)
        use_any_core(0)
        assert os.sched_getaffinity(0) == {min(before)}  # someone else's wish
        monkeypatch.setenv("OMP_PROC_BIND", "true")
        use_any_core(0)
        assert os.sched_getaffinity(0) >= before
    finally:
        os.sched_setaffinity(0, before)
