import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

datasets = pytest.importorskip("datasets")

from classmates.data.loading import load  # noqa: E402
from classmates.data.readers.hub import list_hub, list_splits  # noqa: E402
from classmates.data.readers.images import decode  # noqa: E402
from classmates.data.readers.listing import read_listing  # noqa: E402
from classmates.errors import UserError  # noqa: E402

NAMES = ["cat", "dog"]


def encoded(shade, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (shade, 0, 255)).save(file, kind, lossless=True)
    return {"bytes": file.getvalue(), "path": None}


def table(count=8, labels=None, names=NAMES, **columns):
    """Images whose red is 10 times their row, modulo 256, and the column ``label``."""
    labels = [row % 2 for row in range(count)] if labels is None else labels
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    images = [encoded(10 * row % 256) for row in range(count)]
    made = datasets.Dataset.from_dict({"image": images, "label": labels}, features)
    for name, values in columns.items():
        made = made.add_column(name, values)
    return made


def listed(label=None, **splits):
    return list_splits(splits, name="pets", where="hf:me/pets", label=label)


def reds(split):
    return [decode(split.paths[row], 3).getpixel((0, 0))[0] for row in range(len(split))]


def test_images_labels_and_names():
    found = listed(train=table(), validation=table(4), test=table(2))
    assert found.class_names == ("cat", "dog")
    assert {part: len(split) for part, split in found.parts.items()} == {"train": 8, "val": 4, "test": 2}
    assert found.parts["train"].labels.tolist() == [0, 1] * 4
    assert found.parts["train"].labels.dtype == torch.int64
    assert reds(found.parts["train"]) == [10 * row for row in range(8)]
    assert found.notes == ()
    source = read_listing(found, image_size=None, channels=None, on_bad_image="error")
    assert source.train.images[:, 2, 3].tolist() == [[10 * row, 0, 255] for row in range(8)]
    assert source.image_size == (5, 6)


def test_rows_keep_their_numbers_when_some_are_taken():
    rows = listed(train=table()).parts["train"].paths.take(torch.tensor([6, 1, 3])).take(torch.tensor([2, 0]))
    assert len(rows) == 2
    assert [str(rows[0]), str(rows[1])] == ["in row 3 of train of hf:me/pets", "in row 6 of train of hf:me/pets"]
    again = pickle.loads(pickle.dumps(rows))
    assert decode(again[1], 3).getpixel((0, 0)) == (60, 0, 255)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_kinds_of_bytes(kind):
    plain = datasets.Dataset.from_dict({"img": [encoded(200, kind)["bytes"]] * 2, "label": [0, 1]})
    [first, _] = reds(listed(train=plain).parts["train"])
    assert abs(first - 200) <= (3 if kind == "JPEG" else 0)
    structure = datasets.Dataset.from_dict({"img": [encoded(200, kind)] * 2, "label": [0, 1]})
    assert reds(listed(train=structure).parts["train"]) == [first] * 2


def test_an_image_that_is_a_path(tmp_path):
    Image.new("RGB", (2, 2), (7, 0, 0)).save(tmp_path / "a.png")
    cells = [{"bytes": None, "path": str(tmp_path / "a.png")}] * 2
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=NAMES))
    made = datasets.Dataset.from_dict({"image": cells, "label": [0, 1]}, features)
    assert reds(listed(train=made).parts["train"]) == [7, 7]


def test_a_cell_without_an_image_is_named():
    made = datasets.Dataset.from_dict({"image": [encoded(1), {"bytes": None, "path": None}], "label": [0, 1]})
    with pytest.raises(UserError, match="cannot read the image in row 1 of train of hf:me/pets"):
        read_listing(listed(train=made), image_size=None, channels=None, on_bad_image="error")


def test_labels_without_names_are_classes_by_their_values():
    numbers = datasets.Dataset.from_dict({"image": [encoded(0)] * 4, "species": [30, 7, 30, 100]})
    found = listed(train=numbers)
    assert found.class_names == ("7", "30", "100")
    assert found.parts["train"].labels.tolist() == [1, 0, 1, 2]
    texts = datasets.Dataset.from_dict({"image": [encoded(0)] * 3, "species": ["owl", "auk", "owl"]})
    found = listed(train=texts, test=texts.select([1]))
    assert found.class_names == ("auk", "owl")
    assert found.parts["train"].labels.tolist() == [1, 0, 1]
    assert found.parts["test"].labels.tolist() == [0]


def test_texts_are_written_as_the_names_of_classes_are_and_none_is_empty():
    def of(*texts):
        return datasets.Dataset.from_dict({"image": [encoded(0)] * len(texts), "species": texts})

    found = listed(train=of("caf\u00e9", "owl", "cafe\u0301"), test=of("", ""))
    assert found.class_names == ("caf\u00e9", "owl")
    assert found.parts["train"].labels.tolist() == [0, 1, 0]
    assert found.parts.keys() == {"train"}
    with pytest.raises(UserError, match=r"1 of 3 rows of the train split of .* have no species \(empty or -1\)"):
        listed(train=of("owl", "", "auk"))


def test_several_label_columns_need_a_choice():
    both = table(coarse=[0, 0, 0, 0, 5, 5, 5, 5])
    with pytest.raises(UserError, match="several columns of labels, label, coarse: choose one with --label"):
        listed(train=both)
    assert listed("coarse", train=both).class_names == ("0", "5")
    assert listed("label", train=both).class_names == ("cat", "dog")
    with pytest.raises(UserError, match=r"label is 'fine', but hf:me/pets has no such column .*are: label, coarse"):
        listed("fine", train=both)
    named = table(file=["x"] * 4 + ["y"] * 4)  # a text is no rival of numbers, but can be asked for
    assert listed(train=named).class_names == ("cat", "dog")
    assert listed("file", train=named).class_names == ("x", "y")


def test_a_test_split_without_labels_gives_way_to_validation():
    found = listed(train=table(), validation=table(4), test=table(6, labels=[-1] * 6))
    assert found.parts.keys() == {"train", "test"}
    assert len(found.parts["test"]) == 4
    assert str(found.parts["test"].paths[1]) == "in row 1 of val of hf:me/pets"
    assert found.notes == (
        "the test split of hf:me/pets has no labels, not used",
        "no labelled test split in hf:me/pets: its validation split is the test set",
    )
    missing = table(3, labels=[None] * 3)
    assert listed(train=table(), test=missing).parts.keys() == {"train"}


def test_splits_by_other_names():
    found = listed(training=table(), dev=table(2), testing=table(2), extra=table(2))
    assert found.parts.keys() == {"train", "val", "test"}
    assert found.notes == ("splits of hf:me/pets not used: extra",)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"test": table(2)}, "has no training split, only test"),
        (
            {"train": table(2), "valid": table(2), "dev": table(2)},
            "several parts for val: valid, dev; call the right one",
        ),
        ({"train": table(2).remove_columns("image")}, r"no column of images .* only label"),
        ({"train": table(2).remove_columns("label")}, r"no column of labels .* only image"),
        ({"train": table(2), "test": table(2, extra=[1, 2])}, "test split .* has the columns image, label, extra"),
        ({"train": table(3, labels=[0, None, -1])}, r"2 of 3 rows of the train split .* no label \(empty or -1\)"),
        ({"train": table(2, labels=[-1, -1])}, "training split of hf:me/pets has no labels in the column 'label'"),
        (
            {"train": table(2).rename_column("image", "a").add_column("b", [b"x", b"y"])},
            "several columns of images, a, b: call the right one 'image'",
        ),
    ],
)
def test_what_cannot_work_is_told(splits, message):
    with pytest.raises(UserError, match=message):
        listed(**splits)


def test_a_class_that_training_does_not_have():
    train = datasets.Dataset.from_dict({"image": [encoded(0)] * 2, "species": ["auk", "owl"]})
    test = datasets.Dataset.from_dict({"image": [encoded(0)], "species": ["owll"]})
    with pytest.raises(UserError, match=r"test split .* label 'owll', .* did you mean 'owl'"):
        listed(train=train, test=test)


def test_a_mask_beside_the_image_is_left_alone():
    masked = table(2).add_column("mask", [encoded(0), encoded(0)])
    assert reds(listed(train=masked).parts["train"]) == [0, 10]


def test_a_set_of_the_hub(monkeypatch, tmp_path):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return datasets.DatasetDict(train=table(40, names=NAMES), test=table(4))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = load("hf:me/pets:small", data_dir=tmp_path, image_size=4)
    assert asked == [(("me/pets", "small"), {"cache_dir": tmp_path})]
    assert data.name == "pets"
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 4)
    assert data.input_shape == (3, 4, 4)
    load("hf:pets")
    assert asked[1] == (("pets", None), {"cache_dir": None})


def test_a_local_copy_of_a_set_is_read_by_the_library_itself(tmp_path):
    (tmp_path / "pets").mkdir()
    table(20).to_parquet(tmp_path / "pets" / "train-00000-of-00001.parquet")
    found = list_hub(str(tmp_path / "pets"), tmp_path / "cache", None)
    assert found.class_names == ("cat", "dog")
    assert reds(found.parts["train"])[:3] == [0, 10, 20]


def test_the_hub_cannot_be_reached(monkeypatch):
    def closed(*arguments, **options):
        raise ConnectionError("Couldn't reach 'me/pets' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", closed)
    with pytest.raises(UserError, match=r"hf:me/pets cannot be loaded: Couldn't reach(.|\n)*hf download me/pets"):
        load("hf:me/pets")


def test_the_library_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"hf:me/pets needs the library datasets: pip install 'classmates\[data\]'"):
        load("hf:me/pets")


def test_sixteen_thousand_rows_are_not_sixteen_thousand_objects():
    rows = listed(train=table(4)).parts["train"].paths
    many = rows.take(torch.arange(4).repeat(4000))
    assert isinstance(many.rows, np.ndarray)
    assert len(pickle.dumps(many)) < 16_000 * 8 + 20_000


@pytest.mark.parametrize(
    "ids",
    [
        [7, 7, 8, 8, -1, -1, None, 9],
        [7.0, 7.0, 8.0, 8.0, np.nan, np.nan, None, 9.0],
        ["p7", "p7", "p8", "p8", "?", "n/a", None, "p9"],
    ],
)
def test_rows_of_one_patient_are_of_one_group_in_every_part(ids):
    train = table(labels=[0, 1, 0, 1, 0, 1, 0, 1], patient_id=ids)
    found = listed(train=train, test=table(2, patient_id=[ids[2], ids[7]]))
    groups = found.parts["train"].groups.tolist()
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert len({*groups[3:]}) == 5
    assert found.parts["test"].groups.tolist() == [groups[2], groups[7]]
    assert found.notes == ("labels of hf:me/pets in 'label'", "rows of the same 'patient_id' are of one group")
    assert found.class_names == ("cat", "dog")


def test_spaces_around_a_patient_are_none_of_it():
    train = table(labels=[0, 1, 0, 1, 0, 1, 0, 1], patient_id=["3", "3 ", " 4", "4", " ", " ", "5", "5"])
    groups = listed(train=train).parts["train"].groups.tolist()
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert len(set(groups)) == 5


def test_columns_of_groups_are_no_rivals_of_labels():
    both = datasets.Dataset.from_dict({"image": [encoded(0)] * 4, "patient": [3, 3, 4, 4], "finding": [0, 1, 1, 0]})
    found = listed(train=both)
    assert found.class_names == ("0", "1")
    assert found.parts["train"].groups.unique().numel() == 2
    assert "labels of hf:me/pets in 'finding'" in found.notes
    only = listed(train=both.remove_columns("finding"))
    assert only.class_names == ("3", "4")
    assert only.parts["train"].groups is None


def test_a_text_beside_numbers_of_groups_needs_a_choice():
    """It may be a diagnosis, or a file's name."""
    plain = datasets.Dataset.from_dict({"image": [encoded(0)] * 4, "patient": [3, 3, 4, 4], "finding": [*"abba"]})
    with pytest.raises(UserError, match="several columns of labels, patient, finding: choose one with --label"):
        listed(train=plain)
    found = listed("finding", train=plain)
    assert found.class_names == ("a", "b")
    assert found.parts["train"].groups.unique().numel() == 2
    asked = listed("patient", train=plain)
    assert asked.class_names == ("3", "4")
    assert asked.parts["train"].groups is None


def test_a_column_with_names_of_classes_may_be_the_labels_or_groups():
    named = table(count=8).rename_column("label", "lesion")
    assert listed(train=named).class_names == ("cat", "dog")
    assert listed(train=named).parts["train"].groups is None
    asked = listed("kind", train=named.add_column("kind", [*"xyxyyxyx"]))
    assert asked.parts["train"].groups.unique().numel() == 2
    assert listed(train=table()).parts["train"].groups is None


@pytest.mark.parametrize("name", ["hf:scans", "hf:scans:small", "hf:me/scans"])
def test_what_is_split_off_a_set_of_the_hub_divides_no_group(name, monkeypatch):
    scans = table(40, patient_id=[row // 4 for row in range(40)])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=scans))
    data = load(name, val_fraction=0.3)
    parts = [set(split.groups.tolist()) for split in (data.train, data.val, data.test)]
    assert [*map(len, parts)] == [6, 2, 2]
    assert len(set.union(*parts)) == 10
