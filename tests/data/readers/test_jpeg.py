import struct
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from classmates.data.parts import Encoded
from classmates.data.readers import jpeg
from classmates.data.readers.images import check, decode
from classmates.data.readers.jpeg import decode_fast, decoder
from classmates.data.readers.opening import UnreadableImage

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((75, 52))


def with_orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return {"exif": exif}


@pytest.fixture(params=["simplejpeg", "torchvision"], autouse=True)
def installed(request, monkeypatch):
    """The fastest decoder that is installed."""
    if request.param == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    return request.param


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
def test_every_decoder_gives_what_pillow_does(tmp_path, image, options, channels):
    path = tmp_path / "ein Bild 猫.jpg"
    image.save(path, **options)
    expected = transforms.pil_to_tensor(decode(path, channels))
    assert torch.equal(decode_fast(path, channels), expected)
    assert torch.equal(decode_fast(Encoded("row 1", path.read_bytes()), channels), expected)


def with_blocks(path, exif, xmp, first):
    """Save the picture with orientations in EXIF and XMP (None: without), one or the other first in the file."""
    PICTURE.save(path, quality=90)
    told = f'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="{xmp}"/>' if xmp else "<x:xmpmeta/>"
    contents = [b"http://ns.adobe.com/xap/1.0/\0" + told.encode()]
    if exif is not None:
        contents.insert(first == "xmp", with_orientation(exif)["exif"].tobytes())
    blocks = [b"\xff\xe1" + (2 + len(content)).to_bytes(2, "big") + content for content in contents]
    plain = path.read_bytes()
    path.write_bytes(plain[:2] + b"".join(blocks) + plain[2:])


@pytest.mark.parametrize("first", ["exif", "xmp"])
@pytest.mark.parametrize(("exif", "xmp"), [(None, 6), (6, None), (6, 6), (1, None), (None, None), (3, 1), (None, 3)])
def test_orientations_in_xmp_and_after_it_count_too(tmp_path, exif, xmp, first):
    with_blocks(tmp_path / "turned.jpg", exif, xmp, first)
    expected = transforms.pil_to_tensor(decode(tmp_path / "turned.jpg", 3))
    assert expected.shape == ((3, 75, 52) if 6 in (exif, xmp) else (3, 52, 75))
    assert torch.equal(decode_fast(tmp_path / "turned.jpg", 3), expected)


def test_which_decoder_it_is_can_be_told(installed):
    assert decoder() == f"{installed} {version(installed)}"


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


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4], ids=["short", "long"])
def test_a_photo_lies_as_pillow_lays_it_however_its_orientation_is_written(tmp_path, order, kind):
    for number in range(10):
        tag = struct.pack(f"{order}HHI", 0x0112, kind, 1) + struct.pack(
            f"{order}{'HH' if kind == 3 else 'I'}", *(number, 0)[: 5 - kind]
        )
        tiff = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, 1) + tag + bytes(4)
        PICTURE.save(tmp_path / "turned.jpg", exif=b"Exif\0\0" + tiff)
        expected = transforms.pil_to_tensor(decode(tmp_path / "turned.jpg", 3))
        assert torch.equal(decode_fast(tmp_path / "turned.jpg", 3), expected), f"orientation {number}"
        assert (expected.shape[1] > expected.shape[2]) == (number in (5, 6, 7, 8)), f"orientation {number}"


TURNED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""How an image of each orientation is to be seen."""


@pytest.mark.parametrize("malformed", [None, 0x0100, 0x011A], ids=["whole", "ImageWidth", "XResolution"])
@pytest.mark.parametrize("end", ["jpg", "png", "webp"])
def test_an_image_is_turned_whatever_else_is_wrong_with_its_exif(tmp_path, malformed, end):
    path = tmp_path / f"turned.{end}"
    PICTURE.save(path, lossless=True)
    upright = np.asarray(decode(path, 3))
    for orientation, turn in TURNED.items():
        tags = {0x0112: (3, 1, struct.pack("<HH", orientation, 0))}
        if malformed:
            tags[malformed] = (2, 3, b"72\0\0")  # a text, where a number should be
        entries = [
            struct.pack("<HHI", tag, kind, count) + value for tag, (kind, count, value) in sorted(tags.items())
        ]
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
        expected = turn(upright)
        PICTURE.save(path, lossless=True, exif=exif)
        for file in (path, Encoded("row 1", path.read_bytes()), Image.open(path)):
            where = f"orientation {orientation}, {type(file).__name__}"
            shown = decode(file, 3)
            assert np.array_equal(shown, expected), where
            assert np.array_equal(decode(shown, 3), expected), where
            assert np.array_equal(decode_fast(file, 3).permute(1, 2, 0), expected), where
            assert np.array_equal(check(file, 3, expected.shape[:2]).pixels, expected), where
            assert check(file, 3).size == shown.size, where
