"""Folders of images as nobody would want them: each kind is told in a sentence or read as it should be, in time."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image

from classmates.cli import main
from classmates.networks.building.build import build_model
from classmates.runs.student import StudentCard, save_student

CARD = StudentCard("resnet8", ("cat", "dog"), (3, 32, 32), (0.5,) * 3, (0.2,) * 3, (32, 32))
SECONDS = 20
"""What a command may take: what is wrong here would hang it, or fill the memory."""


def image(path, size=(12, 10), shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 255 - shade)).save(path)


def photos(root, classes=("cat", "dog"), count=12):
    for number, name in enumerate(classes):
        for shade in range(count):
            image(root / name / f"{shade}.png", shade=20 * shade + number)


def postscript(root):
    photos(root)
    Image.new("RGB", (50, 50)).save(root / "cat" / "a.jpg", "EPS")


def pipe(root):
    photos(root)
    os.mkfifo(root / "pipe")
    (root / "cat" / "a.png").symlink_to(root / "pipe")


def device(root):
    photos(root)
    (root / "cat" / "a.png").symlink_to("/dev/zero")


def links(root):
    photos(root)
    for level in range(22):
        (root.parent / "levels" / str(level)).mkdir(parents=True)
    for level in range(21):
        for name in "xy":
            (root.parent / "levels" / str(level) / name).symlink_to(root.parent / "levels" / str(level + 1))
    (root / "cat" / "in").symlink_to(root.parent / "levels" / "0")


def circle(root):
    photos(root)
    (root / "cat" / "in").symlink_to(root)


def long_image(root):
    photos(root)
    image(root / "cat" / "a.png", (300_000, 1))


def bytes_in_names(root):
    photos(root / os.fsdecode(b"\xfe"), (os.fsdecode(b"caf\xe9"), "dog"))
    (root / os.fsdecode(b"\xfe") / "dog" / os.fsdecode(b"\xfd.png")).write_bytes(b"no image")


def other_names(root):
    photos(root / "Training")
    photos(root / "Testing", count=2)


def one_class(root):
    photos(root, ["cat"])


def too_few(root):
    photos(root)
    image(root / "hat" / "0.png")
    image(root / "hat" / "1.png")


def nothing(root):
    root.mkdir()


DATA = {  # what ``data`` says: its exit code and words of it
    postscript: (0, "cat/a.jpg: it is no image of the formats"),
    pipe: (0, "cat/a.png: it is a pipe, not a file"),
    device: (0, "cat/a.png: it is a device, not a file"),
    links: (0, "folders left out to which links lead a second time: 21"),
    circle: (2, "cat/in is a link to a folder that it lies in"),
    long_image: (0, "12x1 to 300000x10 pixels"),
    bytes_in_names: (0, r"caf\udce9"),
    other_names: (0, "Training/ is train/, Testing/ is test/"),
    one_class: (2, "one class only, 'cat'"),
    too_few: (2, "class 'hat' has one image beside those of the test set"),
    nothing: (2, "has no class folders"),
}
PREDICTED = {make: code for make, (code, _) in DATA.items() if make is not circle} | dict.fromkeys(
    (one_class, too_few, other_names), 0
)


@pytest.fixture(autouse=True)
def in_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("make", DATA, ids=lambda make: make.__name__)
def test_data_says_what_is_there(tmp_path, capsys, make):
    make(tmp_path / "photos")
    code, words = DATA[make]
    assert main(["data", "photos"]) == code
    said = capsys.readouterr()
    assert words in " ".join((said.out + said.err).split())


@pytest.mark.parametrize("side", [32, 72])
@pytest.mark.parametrize("make", PREDICTED, ids=lambda make: make.__name__)
def test_predict_names_every_image_that_can_be_read(tmp_path, capsys, make, side):
    make(tmp_path / "photos")
    torch.manual_seed(0)
    card = CARD if side == 32 else replace(CARD, input_shape=(3, side, side), resize=82)
    save_student(tmp_path / "run", build_model("resnet8", 2), card)
    assert main(["predict", "run", "photos", "--out", "result.csv", "--accelerator", "cpu"]) == PREDICTED[make]
    if PREDICTED[make] == 0:
        table = (tmp_path / "result.csv").read_text(encoding="utf-8")
        readable = sum(not name.startswith(("a.", "\udcfd")) for _, _, names in os.walk("photos") for name in names)
        assert len(table.splitlines()) == 1 + readable - (make is pipe) + (make is long_image)


def test_files_and_folders_whose_names_are_not_utf8_can_be_named(tmp_path, capsys):
    bytes_in_names(tmp_path / "photos")
    save_student(tmp_path / "run", build_model("resnet8", 2), CARD)
    folder = f"photos/{os.fsdecode(bytes([0xFE]))}"
    assert main(["predict", "run", f"{folder}/dog/0.png", folder, "--accelerator", "cpu"]) == 0
    assert r"photos/\udcfe/dog/0.png" in capsys.readouterr().out
