import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data.readers.folder import list_folder
from classmates.data.readers.listing import read_listing
from classmates.errors import UserError
from tests.fixtures.class_folders import write, write_classes


def read(folder, image_size=None, channels=None, on_bad_image="error"):
    return read_listing(list_folder(folder), image_size=image_size, channels=channels, on_bad_image=on_bad_image)


def test_train_val_and_test_folders(tmp_path):
    write_classes(tmp_path / "train", count=4)
    write_classes(tmp_path / "val", count=2)
    write_classes(tmp_path / "test", count=1)
    source = read(tmp_path)
    assert source.name == tmp_path.name
    assert source.train.class_names == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert source.train.labels.dtype == torch.int64
    assert source.val.labels.tolist() == [0, 0, 1, 1]
    assert source.test.labels.tolist() == [0, 1]
    assert source.image_size == (6, 8)
    assert source.train.images.shape == (8, 6, 8, 3)
    assert source.train.images.is_contiguous()
    assert source.train.images[:, 0, 0].tolist() == [[48 + n, 0, 255] for n in (0, 1, 2, 3)] * 2
    assert [path.name for path in source.train.paths] == ["0.png", "1.png", "2.png", "3.png"] * 2
    assert list(source.test.paths) == [tmp_path / "test" / name / "0.png" for name in ("cat", "dog")]
    assert source.notes == source.unreadable == ()
    assert source.flip


def test_class_folders_alone(tmp_path):
    write_classes(tmp_path, ("b", "a", "Ünï code"), count=2)
    write(tmp_path / "a" / "deeper" / "x.PNG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / "a" / ".thumbnails").mkdir()
    (tmp_path / "a" / ".thumbnails" / "y.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    source = read(tmp_path)
    assert source.notes == (
        "hidden files or folders (a dot at the start of the name, __MACOSX, @eaDir) left out: 3, such as .cache",
        "files left out, by their names no images: 1, such as a/notes.txt",
    )
    assert source.train.class_names == ("a", "b", "Ünï code")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert source.val is None
    assert source.test is None


def test_what_lies_beside_is_said(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "masks")
    write(tmp_path / "train" / "loose.png")
    notes = read(tmp_path).notes
    assert "beside train/, not used: masks/" in notes
    assert any(note.endswith("that are in no class folder, not used: 1") for note in notes)


def test_grey_images_have_one_channel_unless_asked(tmp_path):
    write_classes(tmp_path, mode="L", shade=51)
    write(tmp_path / "cat" / "9.png", mode="L", shade=204)
    source = read(tmp_path)
    assert source.train.images.shape[-1] == 1
    assert source.moments["train"].shape == (7, 2, 1)
    assert read(tmp_path, channels=3).train.images.shape[-1] == 3
    write(tmp_path / "cat" / "colour.png")
    assert read(tmp_path).train.images.shape[-1] == 3
    assert read(tmp_path, channels=1).train.images.shape[-1] == 1


@pytest.mark.parametrize(
    ("sizes", "image_size", "expected", "in_memory"),
    [
        ([(64, 32)], None, (32, 64), True),
        ([(65, 65)], None, (65, 65), False),
        ([(225, 225)], None, (224, 224), False),
        ([(90, 60)], None, (128, 128), False),
        ([(300, 160), (160, 200)], None, (224, 224), False),
        ([(300, 159), (159, 200), (500, 500)], None, (128, 128), False),
        ([(30, 20), (20, 30)], None, (32, 32), True),
        ([(30, 40), (64, 50)], None, (64, 64), True),
        ([(30, 20), (90, 80)], 16, (16, 16), True),
        ([(30, 20), (90, 80)], 65, (65, 65), False),
    ],
)
def test_small_images_are_kept_in_memory(tmp_path, sizes, image_size, expected, in_memory):
    for number, size in enumerate(sizes):
        write(tmp_path / "cat" / f"{number}.png", size)
        write(tmp_path / "dog" / f"{number}.png", size)
    source = read(tmp_path, image_size)
    assert source.image_size == expected
    if in_memory:
        assert source.train.images.shape == (2 * len(sizes), *expected, 3)
    else:
        assert source.train.images is None
    assert [path.parent.name for path in source.train.paths] == ["cat"] * len(sizes) + ["dog"] * len(sizes)
    chosen = image_size is None and set(sizes) != {expected[::-1]}
    noted = [note for note in source.notes if f"used at {expected[1]}x{expected[0]} pixels (--image_size" in note]
    assert len(noted) == chosen


def test_moments_of_streamed_images_are_those_of_their_pixels(tmp_path):
    for name, shade in (("cat", 100), ("dog", 200)):
        write(tmp_path / name / "0.png", (90, 60), shade)
    moments = read(tmp_path).moments["train"]
    values = np.array([[[100, 0, 255], [200, 0, 255]]]).transpose(1, 0, 2) / 255
    np.testing.assert_allclose(moments, np.concatenate([values, values**2], axis=1))


def test_moments_have_one_channel_where_all_streamed_images_are_grey(tmp_path):
    for name, shade in (("cat", 51), ("dog", 204)):
        write(tmp_path / name / "0.png", (90, 60), shade, mode="L")
    np.testing.assert_allclose(read(tmp_path).moments["train"], [[[0.2], [0.04]], [[0.8], [0.64]]])
    assert read(tmp_path, channels=3).moments["train"].shape == (2, 2, 3)


def test_bad_images_are_named_counted_and_skipped_on_request(tmp_path):
    write_classes(tmp_path, count=8)
    for number in range(6):
        (tmp_path / "cat" / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"(?s)6 of 16 images .*cat/0\.png.*cat/4\.png.*--on_bad_image skip") as error:
        read(tmp_path)
    assert "5.png" not in str(error.value)
    source = read(tmp_path, on_bad_image="skip")
    assert source.train.labels.bincount().tolist() == [2, 8]
    assert len(source.train.images) == len(source.moments["train"]) == 10
    [note] = source.notes
    assert note.startswith("6 unreadable images skipped: ")
    assert all(f"cat/{number}.png" in note for number in range(6))
    assert len(source.unreadable) == 6
    assert [path.name for path in source.train.paths][:3] == ["6.png", "7.png", "0.png"]


def test_only_some_of_many_bad_images_are_named_in_the_note(tmp_path):
    write_classes(tmp_path, count=30)
    for number in range(25):
        (tmp_path / "cat" / f"{number}.png").write_bytes(b"broken")
    source = read(tmp_path, on_bad_image="skip")
    assert len(source.unreadable) == 25
    assert source.notes[0].startswith("25 unreadable images skipped: ")
    assert source.notes[0].count(".png") == 20
    assert source.notes[0].endswith("; and 5 more")


def test_a_class_whose_images_are_all_bad_is_named(tmp_path):
    write_classes(tmp_path)
    for path in (tmp_path / "dog").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"no readable image in .* \(train\) for class 'dog'"):
        read(tmp_path, on_bad_image="skip")


def test_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist: give a folder of class folders"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no class folders"):
        read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a folder"):
        read(tmp_path / "file")


def test_a_mistyped_folder_is_told(tmp_path, monkeypatch):
    write_classes(tmp_path / "Photos")
    (tmp_path / "photo.md").write_text("")
    (tmp_path / "labels.csv").write_text("")
    for typed, meant in {"photo": "Photos", "label": "labels.csv"}.items():
        with pytest.raises(UserError, match=rf"{typed} does not exist: did you mean {tmp_path / meant}\?$"):
            read(tmp_path / typed)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^photo does not exist: did you mean \./Photos\?$"):
        list_folder(Path("photo"))
    with pytest.raises(UserError, match="photo does not exist: give a folder of class folders"):
        read(tmp_path / "away" / "photo")


def test_one_class_only(tmp_path):
    write_classes(tmp_path / "train", ["cat"])
    with pytest.raises(UserError, match="one class only, 'cat'"):
        read(tmp_path)


def test_an_empty_class(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "readme.txt").write_text("none yet")
    with pytest.raises(UserError, match=r"no readable image in .* for class 'emu'.*\n.*left out.*: 1, such as emu/"):
        read(tmp_path)


def test_names_that_are_not_utf8_are_backslash_escapes(tmp_path):
    root = tmp_path / os.fsdecode(b"photos \xff")
    for name in (b"caf\xe9", b"dog"):
        write(root / os.fsdecode(name) / "0.png")
        write(root / os.fsdecode(name) / os.fsdecode(b"\xfe.png"))
    (root / "dog" / os.fsdecode(b"\xfd.txt")).write_text("")
    (root / "dog" / os.fsdecode(b"\xfc.png")).write_text("no image")
    source = read(root, on_bad_image="skip")
    assert source.name == r"photos \udcff"
    assert source.train.class_names == (r"caf\udce9", "dog")
    assert [len(source.train), len(source.unreadable)] == [4, 1]
    json.dumps([source.name, *source.train.class_names, *source.notes, *source.unreadable]).encode()
    for text in (source.name, *source.train.class_names, *source.notes, *source.unreadable):
        text.encode()
    (root / r"caf\udce9").mkdir()
    with pytest.raises(UserError, match=r"two class folders that are both written 'caf\\udce9'"):
        read(root)


def test_a_class_is_the_same_however_its_accents_are_written(tmp_path):
    """Folders from a Mac, or from an archive made there, have letters and accents apart."""
    composed, apart = (unicodedata.normalize(form, "crêpe") for form in ("NFC", "NFD"))
    for folder in (f"train/{apart}", "train/crab", "train/cress", f"test/{composed}", "test/cress"):
        write(tmp_path / "photos" / folder / "0.png")
        write(tmp_path / "photos" / folder / "1.png")
    source = read(tmp_path / "photos")
    assert source.train.class_names == ("crab", "cress", composed)
    assert source.test.labels.tolist() == [1, 1, 2, 2]
    write(tmp_path / "photos" / "train" / composed / "0.png")
    with pytest.raises(UserError, match=r"train has two class folders that are both written 'crêpe'.* into one"):
        read(tmp_path / "photos")


def test_links_and_frames_are_said(tmp_path):
    write_classes(tmp_path / "photos", size=(65, 65))
    write(tmp_path / "elsewhere" / "x.png", (65, 65))
    (tmp_path / "photos" / "cat" / "link.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    frames = [Image.new("RGB", (65, 65), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "photos" / "dog" / "film.gif", save_all=True, append_images=frames[1:])
    source = read(tmp_path / "photos")
    assert source.train.labels.bincount().tolist() == [4, 4]
    assert source.notes == (
        "symbolic links followed: 1, such as cat/link.png",
        "images with several frames or pages, of which the first is used: 1",
    )


def test_a_link_to_nothing_is_an_unreadable_image(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"(?s)1 of 7 images .*gone\.png: it is a link to .*nowhere\.png"):
        read(tmp_path)
    assert len(read(tmp_path, on_bad_image="skip").train) == 6


def test_links_that_cannot_be_followed_are_named(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "cat" / "round").symlink_to("..")
    with pytest.raises(UserError, match=r"cat/round is a link to a folder that it lies in"):
        read(tmp_path)
    (tmp_path / "cat" / "round").unlink()
    (tmp_path / "cat" / "itself.png").symlink_to("itself.png")
    with pytest.raises(UserError, match=r"cat/itself\.png cannot be read: Too many levels"):
        read(tmp_path)


def test_an_image_too_large_is_unreadable_as_others_are(tmp_path, bomb):
    write_classes(tmp_path)
    (tmp_path / "dog" / "huge.png").write_bytes(bomb)
    with pytest.raises(UserError, match=r"(?s)1 of 7 images .*dog/huge\.png: .*900000000 pixels"):
        read(tmp_path)


def test_images_of_one_pixel(tmp_path):
    write_classes(tmp_path, size=(1, 1))
    source = read(tmp_path)
    assert source.image_size == (1, 1)
    assert source.train.images.shape == (6, 1, 1, 3)


def test_odd_names(tmp_path):
    for name in ("with space", "日本", "a'quote", "..two dots"):
        write(tmp_path / name / "im age №1.png")
    source = read(tmp_path)
    assert source.train.class_names == ("a'quote", "with space", "日本")
    assert [path.name for path in source.train.paths] == ["im age №1.png"] * 3
    assert "such as ..two dots" in source.notes[0]
