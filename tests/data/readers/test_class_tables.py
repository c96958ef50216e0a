import csv
import json

import pytest
from PIL import Image

from classmates.data.loading import load
from classmates.data.readers.class_parts import list_class_parts
from classmates.errors import UserError

PARTS = {"train": ("cat", "dog"), "val": ("ant", "bee"), "test": ("elk", "emu", "owl")}
FILES = [
    (part, name, f"{name}{number}.png") for part, names in PARTS.items() for name in names for number in range(3)
]


def write_image(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 5), (shade, 0, 255 - shade)).save(path)


def write_csv(path, columns, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_json(path, content):
    path.write_text(json.dumps(content))


def beside_images(root):
    """``filename,label`` beside ``images/`` (Ravi and Larochelle)."""
    for shade, (part, _, file) in enumerate(FILES):
        write_image(root / "images" / file, shade)
        rows = [(file, name) for there, name, file in FILES if there == part]
        write_csv(root / f"{part}.csv", ("filename", "label"), rows)


def into_a_tree(root):
    """``class_name,image_name`` into the folders of an ImageNet beside it."""
    for shade, (part, name, file) in enumerate(FILES):
        write_image(root / "train" / name / file, shade)
        rows = [(name, file) for there, name, file in FILES if there == part]
        write_csv(root / f"{part}.csv", ("class_name", "image_name"), rows)


def lists_of_images(root):
    """``base.json``, ``val.json`` and ``novel.json``, with the paths of another machine and all classes in each."""
    names = [name for classes in PARTS.values() for name in classes]
    for shade, (_, name, file) in enumerate(FILES):
        write_image(root / "images" / name / file, shade)
    for part, table in (("train", "base"), ("val", "val"), ("test", "novel")):
        own = [(name, file) for there, name, file in FILES if there == part]
        content = {
            "label_names": names,
            "image_names": [f"/home/me/birds/images/{name}/{file}" for name, file in own],
            "image_labels": [names.index(name) for name, _ in own],
        }
        write_json(root / f"{table}.json", content)


def lists_of_folders(root):
    """``class_names,class_roots``, relative to the folder of another program."""
    for shade, (_, name, file) in enumerate(FILES):
        write_image(root / "images" / name / file, shade)
    for part, names in PARTS.items():
        roots = [f"./data/animals/images/{name}" for name in names]
        write_json(root / f"{part}.json", {"class_names": names, "class_roots": roots})


@pytest.mark.parametrize("layout", [beside_images, into_a_tree, lists_of_images, lists_of_folders])
def test_every_layout_gives_the_same_parts(tmp_path, layout):
    layout(tmp_path)
    data = load(tmp_path, classes="disjoint")
    assert data.name == tmp_path.name
    for part, names in PARTS.items():
        split = getattr(data, part)
        assert split.class_names == names
        found = [(split.class_names[label], path.name) for label, path in zip(split.labels, split.paths, strict=True)]
        assert found == [(name, file) for there, name, file in FILES if there == part]
        shades = [shade for shade, (there, *_) in enumerate(FILES) if there == part]
        assert split.images[:, 0, 0, 0].tolist() == shades


def test_a_tree_may_lie_elsewhere(tmp_path):
    into_a_tree(tmp_path / "tables")
    (tmp_path / "tables" / "train").rename(tmp_path / "imagenet")
    found = list_class_parts(tmp_path / "tables", name="tables", trees=[tmp_path / "imagenet"])
    assert [path.exists() for path in found.parts["test"].paths] == [True] * 9
    with pytest.raises(UserError, match=r"cat/cat0\.png, which .*train\.csv names, is in none of .*tables.*: put"):
        list_class_parts(tmp_path / "tables")


def test_a_file_that_is_missing_is_named(tmp_path):
    beside_images(tmp_path)
    (tmp_path / "images" / "emu1.png").unlink()
    with pytest.raises(UserError, match=r"1 of 21 images(.|\n)*emu1\.png"):
        load(tmp_path, classes="disjoint")


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("train.csv", "file,class\na,b\n", r"train\.csv has the columns file, class: it needs filename and label"),
        ("train.csv", "filename,label\n", r"^\S*train\.csv lists no images: give each with its class"),
        (
            "train.csv",
            "filename,label\ncat0.png,cat\ncat1.png,\ncat2.png, \n",
            r"2 of 3 entries of \S*train\.csv have no class, such as cat1\.png: give them one or remove them",
        ),
        ("train.csv", "class_name,image_name\ncat,cat0.png\n,cat1.png\n", r"1 of 2 entries .* such as /cat1\.png"),
        ("train.csv", "filename,label\ncat0.png,cat\ncat0.png,dog\n", r"the file images/cat0\.png twice, as 'cat'"),
        ("train.csv", "", r"train\.csv cannot be read as a table"),
        ("train.json", "[1, 2]", r"train\.json must have label_names, image_names, image_labels, or class_names"),
        ("train.json", "{", r"train\.json cannot be read as a table"),
        *(
            (
                "train.json",
                f'{{"label_names": ["a", "b"], "image_names": ["cat0.png"], "image_labels": [{label}]}}',
                r"train\.json gives cat0\.png the label .*, which none of its 2 label_names has, counted from 0",
            )
            for label in (-1, 2, '"a"', 0.5, "null")
        ),
        (
            "train.json",
            '{"label_names": ["a", ""], "image_names": ["cat0.png", "cat1.png"], "image_labels": [0, 1]}',
            r"1 of 2 entries of \S*train\.json have no class, such as cat1\.png",
        ),
        ("train.json", '{"label_names": [], "image_names": [], "image_labels": []}', "lists no images"),
        ("train.json", '{"class_names": [], "class_roots": []}', r"^\S*train\.json lists no images"),
        ("train.json", '{"class_names": ["a", ""], "class_roots": ["b", "c"]}', "1 of 2 entries .*, such as c: give"),
        (
            "train.json",
            '{"label_names": ["a"], "image_names": ["cat0.png"], "image_labels": []}',
            "has 1 image_names, but 0 image_labels",
        ),
        ("train.json", '{"class_names": ["a", "a"], "class_roots": ["b", "c"]}', "has the class 'a' twice"),
        ("train.json", '{"class_names": ["a"], "class_roots": []}', "has 1 class_names, but 0 class_roots"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, table, content, message):
    beside_images(tmp_path)
    (tmp_path / "train.csv").unlink()
    (tmp_path / table).write_text(content)
    with pytest.raises(UserError, match=message):
        list_class_parts(tmp_path)


def test_a_folder_that_is_missing_is_named_with_its_class(tmp_path):
    lists_of_folders(tmp_path)
    for file in (tmp_path / "images" / "dog").iterdir():
        file.unlink()
    (tmp_path / "images" / "dog").rmdir()
    with pytest.raises(UserError, match=r"train\.json has the class 'dog' in .*dog, which is no folder \(1 of 2"):
        list_class_parts(tmp_path)


def test_a_folder_that_comes_twice_is_named(tmp_path):
    lists_of_folders(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text())
    content["class_roots"][1] = content["class_roots"][0]
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"train\.json has the folder .* twice among its class_roots"):
        list_class_parts(tmp_path)


def test_two_tables_for_one_part(tmp_path):
    beside_images(tmp_path)
    (tmp_path / "base.json").write_text("{}")
    with pytest.raises(UserError, match=r"several tables for train: train\.csv and base\.json"):
        list_class_parts(tmp_path)
