"""What is opened as an image: documented formats in regular files, whatever they are called."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classmates.data.parts import Encoded
from classmates.data.readers import images as reading
from classmates.data.readers.images import check, decode
from classmates.data.readers.jpeg import decode_fast
from classmates.data.readers.opening import EXTENSIONS, FORMATS, UnreadableImage

REFUSED = ["EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "IM", "MSP", "DDS", "ICNS"]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_documented_format_is_read_under_each_of_its_names(tmp_path, kind):
    for extension in FORMATS[kind]:
        path = tmp_path / f"image{extension}"
        Image.new("RGB" if extension != ".pgm" else "L", (16, 12), 77).save(path, kind)
        assert decode(path, 3).size == (16, 12)
        assert decode_fast(path, 3).shape == (3, 12, 16)


def test_the_docs_name_every_format():
    docs = Path("docs/data.md").read_text(encoding="utf-8")
    assert all(f"`{extension}`" in docs for extension in EXTENSIONS)


def test_a_photo_that_nothing_is_installed_for_says_what_reads_it(tmp_path, monkeypatch):
    monkeypatch.delitem(FORMATS, "HEIF")
    path = tmp_path / "IMG_1.HEIC"
    Image.new("RGB", (16, 12)).save(path, "HEIF")
    for read in (decode, decode_fast):
        with pytest.raises(UnreadableImage, match=r"IMG_1\.HEIC: it is HEIC, .*pip install 'classmates\[heic\]'"):
            read(path, 3)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("packed", [False, True])
def test_no_other_format_is_opened_whatever_the_file_is_called(tmp_path, monkeypatch, kind, packed):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **how: pytest.fail("another program was started"))
    path = tmp_path / "cat.jpg"
    Image.new("L" if kind != "MSP" else "1", (64, 64)).save(path, kind)
    file = Encoded("cat.jpg", path.read_bytes()) if packed else path
    for read in (decode, decode_fast):
        with pytest.raises(UnreadableImage, match=r"cat\.jpg: it is no image of the formats that are read, JPEG"):
            read(file, 3)


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_never_opened(tmp_path, monkeypatch, kind, linked):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # the name of a socket must be short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("x.png")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    if linked:
        (tmp_path / "link.png").symlink_to(path)
        path = tmp_path / "link.png"
    for read in (decode, decode_fast):
        with pytest.raises(UnreadableImage, match=f"png: it is a {kind}, not a file"):
            read(path, 3)
    assert isinstance(check(path, 3), UnreadableImage)


def test_the_pixel_limit_is_for_the_fast_decoder_too(tmp_path, monkeypatch):
    path = tmp_path / "large.jpg"
    Image.new("RGB", (40, 30)).save(path)
    monkeypatch.setenv("CLASSMATES_MAX_IMAGE_PIXELS", "1000")
    with pytest.raises(UnreadableImage, match="1200 pixels"):
        decode_fast(path, 3)


def test_a_huge_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    path = tmp_path / "huge.jpg"
    ramp = np.linspace(0, 255, 1200).astype(np.uint8)
    Image.fromarray(np.tile(ramp, (800, 1))).convert("RGB").save(path)
    assert decode(path, 3).size == (1200, 800)
    monkeypatch.setattr(reading, "HUGE", 1000)
    monkeypatch.setattr("classmates.data.readers.jpeg.HUGE", 1000)
    monkeypatch.setattr(reading, "HUGE_SIDE", 200)
    assert decode(path, 3).size == (300, 200)
    assert decode_fast(path, 3).shape == (3, 200, 300)
    assert abs(int(decode_fast(path, 3)[0, 100, 150]) - 128) < 4


def test_an_image_above_the_limit_is_refused_in_words_alone(tmp_path):
    Image.new("1", (12000, 9000)).save(tmp_path / "large.png")
    read = "from classmates.data.readers.images import check; print(check(Path('large.png'), 1))"
    command = [sys.executable, "-c", f"from pathlib import Path; {read}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "exceeds limit" in ended.stdout
    assert "Warning" not in ended.stderr
