"""Files, folders, patterns and lists that images are meant by."""

import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from classmates.errors import UserError
from classmates.evaluation.image_files import find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a/1.png", "a/2.jpg", "b/c/3.png", "b/odd[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["a"], ["a/1.png", "a/2.jpg"]),
        (["a/*.png"], ["a/1.png"]),
        (["**/*.png"], ["a/1.png", "b/c/3.png", "b/odd[1].png"]),
        (["?", "a/1.png"], ["a/1.png", "a/2.jpg", "b/c/3.png", "b/odd[1].png", "a/1.png"]),
        (["b/odd[1].png"], ["b/odd[1].png"]),
        *(([word], ["b/c/3.png", "b/odd[1].png"]) for word in ("b/**", "b/**/", "b/**/*", "b*/**/**", "[b]")),
        (["**"], ["a/1.png", "a/2.jpg", "b/c/3.png", "b/odd[1].png"]),
        ("a/1.png", ["a/1.png"]),
        (Path("a"), ["a/1.png", "a/2.jpg"]),
    ],
)
def test_what_is_meant(folder, words, names):
    assert [str(path) for path in find_images(words)[0]] == names


def test_a_list_on_standard_input(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("b/c/3.png\n\na\r\n"))
    assert [str(path) for path in find_images(["-"])[0]] == ["b/c/3.png", "a/1.png", "a/2.jpg"]
    odd = Path(os.fsdecode(b"a/\xff.png"))
    odd.touch()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a/\xff.png\n"), encoding="utf-8"))
    assert find_images(["-"])[0] == [odd]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(UserError, match="list of images on standard input is empty"):
        find_images(["-"])


@pytest.mark.parametrize(
    ("word", "said"),
    [("*.gif", r"no file fits '\*.gif'"), ("x.png", "there is no image file or folder 'x.png'")],
)
def test_what_is_not_there_is_named(folder, word, said):
    with pytest.raises(UserError, match=said):
        find_images([word])
