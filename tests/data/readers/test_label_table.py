"""A table of files and labels is the data set that its images in class folders would be."""

import os
import re
import shutil

import pytest
import torch
from PIL import Image

from classmates.data.loading import load
from classmates.data.readers import walking
from classmates.data.readers.label_table import is_table, list_table
from classmates.data.readers.opening import FORMATS
from classmates.errors import UserError
from classmates.evaluation.evaluate import evaluate
from classmates.training.train import train

CLASSES = ("cat", "dog", "emu")
COUNT = 20


def write_image(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 0, 255 - shade)).save(path)


def write_table(path, columns, rows, sep=","):
    path.write_text("\n".join(sep.join(map(str, row)) for row in [columns, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folders(tmp_path):
    """Images in class folders below photos/."""
    for number, name in enumerate(CLASSES):
        for index in range(COUNT):
            write_image(tmp_path / "photos" / name / f"{name}_{index}.png", 80 * number + 3 * index)
    return tmp_path / "photos"


@pytest.fixture
def flat(folders):
    """The same images in images/, without folders of their classes, and their rows: file, label."""
    rows = []
    for name in CLASSES:
        for file in sorted(os.listdir(folders / name)):
            write_to = folders.parent / "flat" / "images" / file
            write_to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folders / name / file, write_to)
            rows.append((file, name))
    return folders.parent / "flat", rows


def same(one, other):
    """Whether two data sets have the same images with the same labels in the same parts."""
    for part in ("train", "val", "test"):
        ours, theirs = getattr(one, part), getattr(other, part)
        if not torch.equal(ours.labels, theirs.labels) or not torch.equal(ours.images, theirs.images):
            return False
    return one.class_names == other.class_names and one.mean == other.mean


@pytest.mark.parametrize(
    ("columns", "as_row"),
    [
        (("file", "label"), lambda file, name: (file, name)),
        (("Class", "Picture"), lambda file, name: (name, file)),
        (("id", "breed"), lambda file, name: (file.removesuffix(".png"), name)),
        (("image_path", "category", "remark"), lambda file, name: (f"C:\\photos\\of me\\{file}", name, "nice")),
        (("file_name", "species"), lambda file, name: (f"./images/{file}", name)),
        (("path", "target"), lambda file, name: (f"/home/me/flat/images/{file} ", f" {name}")),
    ],
)
@pytest.mark.parametrize(("sep", "end"), [(",", "csv"), (";", "CSV"), ("\t", "tsv")])
def test_it_is_the_same_as_class_folders(folders, flat, columns, as_row, sep, end):
    root, rows = flat
    table = write_table(root / f"labels.{end}", columns, [as_row(*row) for row in rows], sep)
    assert same(load(table), load(folders))


def test_the_images_may_lie_elsewhere_and_in_several_folders(folders, flat, tmp_path):
    rows = [(file.removesuffix(".png"), name) for file, name in flat[1]]
    (tmp_path / "tables").mkdir()
    table = write_table(tmp_path / "tables" / "of_me.csv", ("id", "dx"), rows)
    assert same(load(table, data_dir=folders), load(folders))
    with pytest.raises(UserError, match=r"no column of .*of_me\.csv names an image below .*tables.*data_dir"):
        load(table)
    with pytest.raises(UserError, match=r"data_dir is '.*nowhere', which is no folder"):
        load(table, data_dir=tmp_path / "nowhere")


def test_a_table_as_spreadsheets_write_it(folders, flat):
    root, rows = flat
    table = write_table(root / "labels.csv", ("﻿file", "label"), [(f'"{file}"', name) for file, name in rows], ";")
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    assert same(load(table), load(folders))


def test_parts_by_a_column(flat):
    root, rows = flat
    parts = ["Training", "valid", "test", "unlabelled"]
    wanted = [(file, name, parts[number % COUNT // 5]) for number, (file, name) in enumerate(rows)]
    data = load(write_table(root / "labels.csv", ("file", "label", "Split"), wanted))
    assert [len(getattr(data, part)) for part in ("train", "val", "test")] == [15, 15, 15]
    assert any("whose Split is 'unlabelled' are not used" in note for note in data.notes)
    assert not any("in no row" in note for note in data.notes)
    with pytest.raises(
        UserError, match=r"the column 'split' of .* has none of train, val, test, but 'first', 'second'"
    ):
        load(
            write_table(root / "labels.csv", ("file", "label", "split"), [(*rows[0], "first"), (*rows[-1], "second")])
        )
    with pytest.raises(UserError, match="has test images alone: say which are for training"):
        load(write_table(root / "labels.csv", ("file", "label", "split"), [(*row, "test") for row in rows]))


def test_numbers_are_classes_in_their_order(flat):
    root, rows = flat
    labelled = [(file, 6 * CLASSES.index(name) - 1) for file, name in rows]
    listing = list_table(write_table(root / "labels.csv", ("file", "label"), labelled), None, None)
    assert listing.class_names == ("-1", "5", "11")
    assert listing.parts["train"].labels.tolist() == [0] * COUNT + [1] * COUNT + [2] * COUNT
    assert len(listing.notes) == 1  # nothing is said of -1: it is a number among numbers
    as_floats = [(file, f"{label:.1f}") for file, label in labelled]  # as pandas writes a column with a gap
    listing = list_table(write_table(root / "labels.csv", ("file", "label"), as_floats), None, None)
    assert listing.class_names == ("-1.0", "5.0", "11.0")
    mixed = [*as_floats[1:], labelled[0]]  # as of two tables that were joined
    listing = list_table(write_table(root / "labels.csv", ("file", "label"), mixed), None, None)
    assert "classes whose names are the same number: '-1' and '-1.0'; if they are one" in listing.notes[-1]


@pytest.mark.parametrize("word", ["nan", "NA", "N/A", "None", "null", "unknown", "?"])
def test_a_class_whose_name_may_mean_that_nobody_knows_is_told(flat, word):
    root, rows = flat
    given = [(file, word if name == "dog" else name) for file, name in rows]
    listing = list_table(write_table(root / "labels.csv", ("file", "label"), given), None, None)
    assert word in listing.class_names
    assert f"'{word}' in {COUNT} rows of labels.csv: a class like others; if that means" in listing.notes[-1]


def test_labels_that_are_called_like_files_are_no_files_though_some_of_those_are_missing(tmp_path):
    rows = [(number, number % 3) for number in range(32)]
    for number in range(30):
        write_image(tmp_path / f"{number}.png", 8 * number)
    listing = list_table(write_table(tmp_path / "labels.csv", ("id", "label"), rows), None, None)
    assert listing.notes[0] == "labels.csv: files in 'id', labels in 'label'"
    assert listing.parts["train"].labels.tolist() == [number % 3 for number in range(32)]


def test_of_several_columns_of_labels_one_is_chosen(flat):
    root, rows = flat
    table = write_table(root / "labels.csv", ("file", "species", "colour"), [(*row, "red") for row in rows])
    with pytest.raises(UserError, match="several columns, species, colour: say which has the labels with --label"):
        load(table)
    assert load(table, label="species").class_names == CLASSES
    with pytest.raises(UserError, match=r"label is 'kind', but .* has no such column of labels: species, colour"):
        load(table, label="kind")


@pytest.mark.parametrize(
    ("columns", "change", "message"),
    [
        (("file", "label"), lambda rows: [], "has no rows"),
        (("file", "label"), lambda rows: [*rows, rows[0]], r"cat_0\.png in 2 rows, as 'cat' and 'cat': keep one"),
        (("file", "label"), lambda rows: [(rows[0][0], ""), *rows[1:]], r"1 rows .* nothing in 'label'.*cat_0\.png"),
        (
            ("file", "label"),
            lambda rows: [(*row, "x") for row in rows],
            "cannot be read as a table of files and labels: rows have more fields than its first line has names",
        ),
        (
            ("file", "cat", "dog"),
            lambda rows: [(row[0], "1.0", "0.0") for row in rows],
            r"several columns, cat, dog: say .* --label; where cat, dog are the classes, make one column .*idxmax",
        ),
        (("file", "label"), lambda rows: [("a\0b.png", "cat"), *rows], "has a zero byte in a field"),
        (("file", "label"), lambda rows: [("no.png", "cat")], "no column of .* names an image"),
        (("file",), lambda rows: [row[:1] for row in rows], "has no column of labels"),
    ],
)
def test_what_cannot_work_is_said(flat, columns, change, message):
    root, rows = flat
    with pytest.raises(UserError, match=message):
        load(write_table(root / "labels.csv", columns, change(rows)))


@pytest.mark.parametrize("written", ["{}.png", "images/{}.png", "{}", "C:\\photos\\{}", "{}.PNG"])
def test_a_table_without_the_names_of_its_columns_is_told(flat, written):
    root, rows = flat
    rows = [(written.format(file.removesuffix(".png")), name) for file, name in rows]
    table = write_table(root / "labels.csv", rows[0], rows[1:])
    said = f"has an image, '{rows[0][0]}', in its first row: write the columns' names above it"
    with pytest.raises(UserError, match=re.escape(said)):
        load(table)
    shutil.copy(root / "images" / "cat_0.png", root / "images" / "id.png")
    write_table(table, ("id", "label"), rows)  # a column's name, though an image has it too
    assert len(load(table, val_fraction=0).train) == 48


def test_a_file_that_is_not_here_cannot_be_read(flat):
    root, rows = flat
    table = write_table(root / "labels.csv", ("file", "label"), [*rows, ("gone.png", "cat")])
    with pytest.raises(UserError, match=r"1 of 61 images in .* cannot be read.*\n.*gone\.png.*No such file"):
        load(table)
    data = load(table, on_bad_image="skip")
    assert len(data.unreadable) == 1
    assert sum(len(part) for part in (data.train, data.val, data.test)) == 60


def test_a_folder_without_classes_names_the_table_in_it(flat):
    root, rows = flat
    write_table(root / "labels.csv", ("file", "label"), rows)
    with pytest.raises(
        UserError, match=r"one class only, 'images'.*; if labels\.csv says .* give that: .*labels\.csv"
    ):
        load(root)
    shutil.move(root / "labels.csv", root / "images")
    with pytest.raises(UserError, match=r"has no class folders.*; if labels\.csv says"):
        load(root / "images")


def test_a_table_that_is_not_there(tmp_path):
    assert is_table("labels.csv")
    with pytest.raises(UserError, match=r"labels\.csv cannot be read.*No such file"):
        load(str(tmp_path / "labels.csv"))


def test_a_student_is_trained_and_judged_by_tables(flat, tmp_path):
    root, rows = flat
    table = write_table(root / "labels.csv", ("file", "label"), rows)
    result = train(
        data=table,
        model="resnet8",
        epochs=2,
        batch_size=6,
        out=tmp_path / "run",
        accelerator="cpu",
        precision="32-true",
        report=False,
        progress=False,
        loggers=(),
    )
    own = evaluate(tmp_path / "run")
    assert own["top1"].value == result.record.test["student"]["top1"].value
    some = write_table(root / "others.csv", ("file", "label"), [row for row in rows if row[1] != "emu"])
    assert evaluate(tmp_path / "run", data=some)["top1"].count == 2 * COUNT


@pytest.mark.parametrize(
    ("columns", "as_row"),
    [
        (("", "picture", "label"), lambda number, file, name: (number, file, name)),  # as pandas writes its index
        (("digit", "img"), lambda number, file, name: (name, file)),
        (("label", "photo"), lambda number, file, name: (name, file)),
    ],
)
def test_a_whole_name_is_more_than_a_number_that_is_one_without_extension(tmp_path, columns, as_row):
    rows = []
    for number in range(30):
        write_image(tmp_path / f"{number}.png", 8 * number)
        rows.append(as_row(number, f"{29 - number}.png", number % 3))
    listing = list_table(write_table(tmp_path / "labels.csv", columns, rows), None, None)
    assert listing.class_names == ("0", "1", "2")
    assert [path.name for path in listing.parts["train"].paths] == [f"{29 - number}.png" for number in range(30)]
    assert listing.parts["train"].labels.tolist() == [number % 3 for number in range(30)]


def test_two_columns_of_files_are_told(flat):
    root, rows = flat
    table = write_table(root / "labels.csv", ("left", "right", "label"), [(file, file, name) for file, name in rows])
    with pytest.raises(UserError, match=r"several columns of files, left, right: call the right one 'file'"):
        load(table)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ('"file, name";label', '{0};"{1}"'),
        ('"file, relative"\t"label, fine"', "{0}\t{1}"),
        ("\n\nfile;label", "{0};{1}"),
        ("sep=;\nfile;label", "{0};{1}"),
        ("file, label", '{0}, "{1}"'),
    ],
)
def test_as_others_write_it(folders, flat, header, row):
    root, rows = flat
    text = "\n".join([header, *(row.format(*each) for each in rows)])
    table = root / ("labels.tsv" if "\t" in header else "labels.csv")
    table.write_text(text)
    assert same(load(table), load(folders))


def test_a_header_may_be_called_like_an_image(flat):
    root, rows = flat
    write_image(root / "images" / "label.png", 3)
    assert len(list_table(write_table(root / "labels.csv", ("file", "label"), rows), None, None).parts["train"]) == 60


def test_photos_that_nothing_is_installed_for_are_told(tmp_path, monkeypatch):
    monkeypatch.delitem(FORMATS, "HEIF")
    monkeypatch.setattr(walking, "EXTENSIONS", (".png",))
    (tmp_path / "IMG_1.HEIC").write_bytes(b"")
    with pytest.raises(UserError, match=r"(?s)no column of .*\nphotos left out that are HEIC.*IMG_1\.HEIC"):
        load(write_table(tmp_path / "labels.csv", ("file", "label"), [("IMG_1", "cat")]))


def test_the_column_of_parts_is_the_one_that_names_parts(flat):
    root, rows = flat
    told = [(*row, "A", "train" if number % 2 else "eval") for number, row in enumerate(rows)]
    table = write_table(root / "labels.csv", ("file", "label", "set", "split"), told)
    assert list(list_table(table, None, "label").parts) == ["train", "test"]
    both = [(*row, "test" if number % 2 else "eval") for number, row in enumerate([*rows])]
    listing = list_table(write_table(table, ("file", "label", "split"), both), None, None)
    assert {part: len(split) for part, split in listing.parts.items()} == {"test": 30}
    assert "rows of labels.csv whose split is 'eval' are not used" in listing.notes
    with pytest.raises(UserError, match="has test images alone"):
        load(table, classes="disjoint")


def test_columns_that_are_called_alike_and_folders_that_cannot_be_read(flat, monkeypatch):
    root, rows = flat
    for header in (("file", "label", "label "), ("file", "label", "label"), ("label", "file", "label")):
        with pytest.raises(UserError, match="two columns called 'label'"):
            load(write_table(root / "labels.csv", header, [(*row, "x") for row in rows]))

    def refuse(self, folder):
        raise PermissionError(13, "Permission denied", str(self.root / folder))

    monkeypatch.setattr(walking.Walk, "_entries", refuse)
    with pytest.raises(UserError, match=r"flat.* cannot be read: Permission denied"):
        load(write_table(root / "labels.csv", ("file", "label"), rows))
