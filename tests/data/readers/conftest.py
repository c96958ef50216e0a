"""Tar files as WebDataset has them, made for a test."""

import io
import json
import tarfile

import pytest
from PIL import Image


def encoded(red, kind="PNG", side=6):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (red, 0, 255)).save(file, kind)
    return file.getvalue()


def pack(path, members):
    """A tar file of members, (name, content) one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            content = content if isinstance(content, bytes) else str(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def tar():
    """Makes a tar file of images whose red is their number; the classes alternate."""

    def make(path, first=0, count=10, side=6, labels=("0", "1"), extension="cls"):
        members = []
        for number in range(first, first + count):
            members.append((f"{number:04}.png", encoded(number, side=side)))
            label = labels[number % len(labels)]
            members.append((f"{number:04}.{extension}", json.dumps(label) if isinstance(label, dict) else label))
        return pack(path, members)

    return make
