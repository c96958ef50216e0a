import inspect
import os
import sys

import pytest

from classmates.data.readers import walking
from classmates.data.readers.opening import FORMATS
from classmates.data.readers.walking import Walk, is_image
from classmates.errors import UserError


@pytest.fixture
def touch(tmp_path):
    def touch(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return Walk(tmp_path)

    return touch


def test_images_are_found_at_any_depth_in_the_order_of_their_names(touch):
    walk = touch(
        "cat/b.png", "cat/a/z.JPG", "cat/a/y/x.webp", "cat/c d/ü.gif", "cat/10.png", "cat/9.png", "dog/x.png"
    )
    expected = ["cat/10.png", "cat/9.png", "cat/a/y/x.webp", "cat/a/z.JPG", "cat/b.png", "cat/c d/ü.gif"]
    assert walk.images("cat") == expected
    assert walk.classes("") == ["cat", "dog"]
    assert walk.notes() == []


def test_what_is_left_out_is_counted(touch):
    walk = touch(
        "cat/a.png", "cat/.b.png", "cat/.thumbs/c.png", "cat/d.txt", "cat/e/Thumbs.db", "cat/f", ".git/g.png"
    )
    touch("@eaDir/a.png", "cat/@eaDir/a.png/SYNOPHOTO_THUMB_M.png", "#recycle/cat/h.png", "$RECYCLE.BIN/i.png")
    assert walk.classes("") == ["cat"]
    assert walk.images("cat") == ["cat/a.png"]
    assert walk.notes() == [
        "hidden files or folders (a dot at the start of the name, __MACOSX, @eaDir) left out: 7, such as #recycle",
        "files left out, by their names no images: 3, such as cat/d.txt",
    ]


def test_photos_that_nothing_is_installed_for_are_counted_apart(touch, monkeypatch):
    assert is_image("IMG_1.HEIC")
    monkeypatch.delitem(FORMATS, "HEIF")
    monkeypatch.setattr(walking, "EXTENSIONS", (".jpg", ".png"))
    walk = touch("cat/a.png", "cat/IMG_1.HEIC", "cat/IMG_2.heif", "cat/c.txt")
    assert walk.images("cat") == ["cat/a.png"]
    assert walk.notes() == [
        "photos left out that are HEIC, which is read where pillow-heif is installed "
        "(pip install 'classmates[heic]'): 2, such as cat/IMG_1.HEIC",
        "files left out, by their names no images: 1, such as cat/c.txt",
    ]


def test_links_are_followed_and_counted(touch, tmp_path):
    walk = touch("photos/cat/a.png", "elsewhere/b.png", "elsewhere/below/c.png")
    walk.root = tmp_path / "photos"
    (walk.root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (walk.root / "cat" / "z.png").symlink_to("../../elsewhere/b.png")
    (walk.root / "dog").symlink_to(tmp_path / "elsewhere")
    assert walk.classes("") == ["cat", "dog"]
    assert walk.images("cat") == ["cat/a.png", "cat/more/b.png", "cat/more/below/c.png", "cat/z.png"]
    assert walk.images("dog") == ["dog/b.png", "dog/below/c.png"]
    assert walk.notes() == ["symbolic links followed: 3, such as cat/more"]


@pytest.mark.parametrize("target", ["..", "../..", "."])
def test_a_link_in_a_circle_ends_the_walk(touch, tmp_path, target):
    walk = touch("cat/below/a.png")
    (tmp_path / "cat" / "below" / "round").symlink_to(target)
    with pytest.raises(UserError, match=r"cat/below/round is a link to a folder that it lies in"):
        walk.images("cat")


def test_two_links_in_a_circle_end_the_walk(touch, tmp_path):
    walk = touch("cat/a.png", "one/b.png", "two/c.png")
    (tmp_path / "cat" / "on").symlink_to(tmp_path / "one")
    (tmp_path / "one" / "on").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "on").symlink_to(tmp_path / "one")
    with pytest.raises(UserError, match=r"cat/on/on/on is a link to a folder that it lies in"):
        walk.images("cat")


def test_links_to_nothing(touch, tmp_path):
    walk = touch("cat/a.png")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert walk.images("cat") == ["cat/a.png", "cat/gone.png"]
    (tmp_path / "dog").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"dog is a link to .*nowhere, which does not exist"):
        walk.classes("")


def test_only_files_are_images(touch, tmp_path):
    walk = touch("cat/a.png", "cat/b.png/c.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")  # reading it would wait for ever
    assert walk.images("cat") == ["cat/a.png", "cat/b.png/c.png"]
    assert walk.notes() == ["pipes, sockets and devices left out: 1, such as cat/pipe.png"]


def test_a_few_links_that_lead_to_a_folder_in_millions_of_ways(touch, tmp_path):
    walk = touch(*(f"levels/{level}/{level}.png" for level in range(22)), "cat/a.png")
    for level in range(21):
        for link in "xy":
            (tmp_path / "levels" / str(level) / link).symlink_to(tmp_path / "levels" / str(level + 1))
    (tmp_path / "cat" / "in").symlink_to(tmp_path / "levels" / "0")
    assert len(walk.images("cat")) == 23
    assert walk.notes()[1] == "folders left out to which links lead a second time: 21, such as " + "/".join(
        ["cat/in", *"x" * 20, "y"]
    )


def test_folders_nested_deeper_than_python_can_go(touch, tmp_path):
    walk = touch(f"cat/{'d/' * 150}a.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        with pytest.raises(UserError, match="cat has folders nested too deep to be read"):
            walk.images("cat")
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", True), ("a.b.JPEG", True), (".a.png", False), ("png", False), ("a.png.txt", False)],
)
def test_images_by_name(name, expected):
    assert is_image(name) == expected
