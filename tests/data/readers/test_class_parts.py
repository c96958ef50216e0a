import io
import pickle
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classmates._names import name_of_class
from classmates.data.parts import Split
from classmates.data.readers.class_parts import Joined, divided, list_class_parts, of_their_classes, together
from classmates.data.readers.downloads import Pixels
from classmates.data.readers.listing import Listing
from classmates.errors import UserError


def shades(*values):
    return Pixels(np.array(values, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2))


def values(files):
    return [files[index].getpixel((0, 0)) for index in range(len(files))]


def listing(**parts):
    """parts: name=(labels, shades)."""
    splits = {part: Split(torch.tensor(labels), paths=shades(*own)) for part, (labels, own) in parts.items()}
    return Listing("set", "here", ("a", "b", "c", "d"), splits)


def test_joined_files_are_one_after_the_other():
    joined = Joined([shades(1, 2, 3), shades(), shades(7), shades(8, 9)])
    assert values(joined) == [1, 2, 3, 7, 8, 9]
    assert values(joined.take(torch.tensor([5, 0, 3])).take(torch.tensor([2, 0]))) == [7, 9]


def test_all_images_together_training_first():
    found = together(listing(test=([3, 0], [8, 9]), train=([1, 0, 2], [5, 6, 7])))
    assert found.parts.keys() == {"train"}
    assert found.parts["train"].labels.tolist() == [1, 0, 2, 3, 0]
    assert values(found.parts["train"].paths) == [5, 6, 7, 8, 9]
    assert "put together" in found.notes[0]


def test_parts_by_classes():
    found = divided(listing(train=([1, 0, 2], [5, 6, 7]), test=([3, 0], [8, 9])), "new", {"val": ["d"], "test": "b"})
    assert found.name == "new"
    assert {part: split.class_names for part, split in found.parts.items()} == {
        "train": ("a", "c"),
        "val": ("d",),
        "test": ("b",),
    }
    assert found.parts["train"].labels.tolist() == [0, 1, 0]
    assert {part: values(split.paths) for part, split in found.parts.items()} == {
        "train": [6, 7, 9],
        "val": [8],
        "test": [5],
    }
    with pytest.raises(UserError, match="new: here has no class 'e'"):
        divided(found, "new", {"test": ["e"]})


def test_classes_of_which_a_part_has_no_image_are_not_its_own():
    found = of_their_classes(listing(train=([0, 2, 2], [1, 2, 3]), test=([3, 1], [4, 5])))
    assert found.parts["train"].class_names == found.class_names == ("a", "c")
    assert found.parts["train"].labels.tolist() == [0, 1, 1]
    assert found.parts["test"].class_names == ("b", "d")
    assert found.parts["test"].labels.tolist() == [1, 0]


def test_classes_are_in_one_order_however_a_file_system_writes_their_accents(tmp_path):
    names = ("ecole", "\u00e9cran", "ete", "\u00e9t\u00e9", "quai", "zebre")
    for form in ("NFC", "NFD"):
        written = [unicodedata.normalize(form, name) for name in names]
        for name in written:
            path = tmp_path / form / "folders" / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (2, 2)).save(path)
        for part in ("train", "test"):
            shutil.copytree(tmp_path / form / "folders", tmp_path / form / "parts" / part)
        rows = [f"../folders/{name}/0.png,{name}" for name in written]
        (tmp_path / form / "table").mkdir()
        (tmp_path / form / "table" / "train.csv").write_text("\n".join(["filename,label", *rows]), encoding="utf-8")
        for kind in ("folders", "parts", "table"):
            found = list_class_parts(tmp_path / form / kind)
            for part in found.parts.values():
                assert part.class_names == tuple(sorted(names))
                assert [name_of_class(path.parent.name) for path in part.paths] == sorted(names)


def test_a_folder_of_pickles_is_not_opened(tmp_path):
    """Opening it would write a file."""
    (tmp_path / "FC100_train.pickle").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(UserError, match=r"FC100_train\.pickle is a pickle, which runs .* it is not: convert it once"):
        list_class_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["FC100_train.pickle"]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        list_class_parts(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"\(train\) has no classes"):
        list_class_parts(tmp_path)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    Image.new("L", (2, 2)).save(tmp_path / "train" / "cat" / "0.png")
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match=r"\(val\) has no classes"):
        list_class_parts(tmp_path)


def convert(folder, *words):
    """Run the script of docs/data.md."""
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    script = text.partition("```python file=unpickle.py\n")[2].partition("```")[0]
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("layout", ["class_dict", "labels", "png"])
def test_the_script_of_the_docs_converts_pickles(tmp_path, layout):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    words = [tmp_path / "train.pickle", tmp_path / "made" / "train"]
    content = {"image_data": images, "class_dict": {"cat": [0, 3], "dog": np.array([1, 2])}}
    if layout == "labels":
        content = {"data": images, "labels": ["cat", "dog", "dog", "cat"]}
    if layout == "png":
        content = [np.frombuffer(encoded(image), np.uint8) for image in images]
        words.append(tmp_path / "labels.pickle")
        words[-1].write_bytes(pickle.dumps({"label_specific": np.array([0, 1, 1, 0])}, 2))
    words[0].write_bytes(pickle.dumps(content, 2))
    done = convert(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    found = list_class_parts(tmp_path / "made").parts["train"]
    assert found.class_names == (("0", "1") if layout == "png" else ("cat", "dog"))
    assert [path.name for path in found.paths] == ["0.png", "3.png", "1.png", "2.png"]
    assert np.array_equal(np.asarray(Image.open(found.paths[1])), images[3])


def encoded(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_the_script_of_the_docs_runs_nothing(tmp_path):
    (tmp_path / "bad.pickle").write_bytes(b"cposix\nsystem\n(S'touch opened'\ntR.")
    done = convert(tmp_path, "bad.pickle", "made")
    assert "posix.system is no part of an array" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pickle"]
