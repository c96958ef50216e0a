import itertools

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from classmates.data.loading import load
from classmates.errors import UserError


def write(path, shade, size=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (size, size), (shade, 7, 9))
    image.putpixel((0, 0), (0, 0, shade))
    image.save(path)


def animals(root, names, first=0, count=4):
    """Class folders of a few images, all different."""
    for place, name in enumerate(names):
        for number in range(count):
            write(root / name / f"{number}.png", first + place * count + number)


def classes_of(data):
    return {part: getattr(data, part).class_names for part in ("train", "val", "test") if getattr(data, part)}


def test_given_parts_keep_their_classes_each_numbered_from_zero(tmp_path):
    parts = {"train": ("cat", "dog", "owl"), "val": ("ant", "bee"), "test": ("elk", "emu", "fox", "gnu")}
    for place, (part, names) in enumerate(parts.items()):
        animals(tmp_path / part, names, first=50 * place)
    data = load(tmp_path, classes="disjoint")
    assert classes_of(data) == parts
    assert data.class_names == parts["train"]
    for part, names in parts.items():
        split = getattr(data, part)
        assert split.labels.tolist() == [number for number in range(len(names)) for _ in range(4)]
        assert [split.class_names[label] for label in split.labels] == [path.parent.name for path in split.paths]
    assert data.notes == ()
    reds = data.train.images[..., 0].double() / 255
    assert data.mean[0] == pytest.approx(reds.mean().item())


def test_classes_are_split_off_where_no_parts_are_given(tmp_path):
    names = [f"class {number:02}" for number in range(15)]
    animals(tmp_path, names, count=3)
    first, other = (load(tmp_path, classes="disjoint", val_fraction=0.3, seed=seed) for seed in (0, 1))
    assert {part: len(found) for part, found in classes_of(first).items()} == {"train": 8, "val": 4, "test": 3}
    for data in (first, other):
        assert sorted(itertools.chain(*classes_of(data).values())) == names
        for split in (data.train, data.val, data.test):
            assert split.labels.bincount().tolist() == [3] * len(split.class_names)
            assert [split.class_names[label] for label in split.labels] == [path.parent.name for path in split.paths]
    assert first.test.class_names == other.test.class_names  # whatever the seed
    assert first.val.class_names != other.val.class_names
    assert [note.partition(":")[0] for note in first.notes] == [
        "no test classes given (test/)",
        "no validation classes given (val/)",
    ]
    assert load(tmp_path, classes="disjoint", val_fraction=0).val is None


def test_only_what_is_missing_is_split_off(tmp_path):
    animals(tmp_path / "train", "abcdef")
    animals(tmp_path / "test", ("x", "y"), first=100)
    data = load(tmp_path, classes="disjoint")
    assert {part: len(names) for part, names in classes_of(data).items()} == {"train": 4, "val": 2, "test": 2}
    assert data.test.class_names == ("x", "y")


def test_train_size_takes_images_of_every_training_class():
    images = torch.randint(256, (80, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    dataset = TensorDataset(images, torch.arange(8).repeat(10))
    whole, small = (load(dataset, classes="disjoint", train_size=size) for size in (None, 20))
    assert classes_of(whole) == classes_of(small)
    assert len(whole.train) == 40
    assert small.train.labels.bincount().tolist() == [5, 5, 5, 5]
    with pytest.raises(UserError, match=r"train_size is 41.* 40 training images of 4 classes"):
        load(dataset, classes="disjoint", train_size=41)


def test_a_class_in_two_parts_is_named(tmp_path):
    animals(tmp_path / "train", ("cat", "dog"))
    animals(tmp_path / "test", ("dog", "owl"), first=50)
    with pytest.raises(UserError, match=r"the class 'dog' of '.*' is in train and in test"):
        load(tmp_path, classes="disjoint", val_fraction=0)


@pytest.mark.parametrize("size", [6, 70], ids=["in memory", "streamed"])
def test_an_image_in_two_parts_is_named_whatever_its_file_is_called(tmp_path, size):
    animals(tmp_path / "train", ("cat", "dog"))
    animals(tmp_path / "test", ("elk", "owl"), first=50)
    write(tmp_path / "train" / "dog" / "twin.png", 200, size)
    Image.open(tmp_path / "train" / "dog" / "twin.png").save(tmp_path / "test" / "owl" / "other.bmp")
    with pytest.raises(
        UserError, match=r"another part: 1, such as .*twin\.png of class 'dog' \(train\) and .*other\.bmp .*\(test\)"
    ):
        load(tmp_path, classes="disjoint", val_fraction=0, image_size=size)


def test_an_image_that_only_looks_alike_on_average_is_no_twin(tmp_path):
    """A mirrored image has the same mean and deviation."""
    animals(tmp_path / "train", ("cat", "dog"))
    animals(tmp_path / "test", ("elk", "owl"), first=50)
    Image.open(tmp_path / "train" / "dog" / "0.png").rotate(180).save(tmp_path / "test" / "owl" / "turned.png")
    assert len(load(tmp_path, classes="disjoint", val_fraction=0).test) == 9


def test_twins_within_a_part_are_left(tmp_path):
    animals(tmp_path / "train", ("cat", "dog"))
    animals(tmp_path / "test", ("elk", "owl"), first=50)
    write(tmp_path / "train" / "dog" / "twin.png", 0)
    assert len(load(tmp_path, classes="disjoint", val_fraction=0).train) == 9


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("ab", "x", "the test images of '.*' have one class only, 'x'"),
        ("abc", "xy", r"of 3 classes, 2 cannot become validation classes.*val_fraction 0"),
        ("abc", "", r"of 3 classes, 2 cannot become test classes.*test classes of their own"),
    ],
)
def test_too_few_classes(tmp_path, train, test, message):
    animals(tmp_path / "train", train)
    if test:
        animals(tmp_path / "test", test, first=100)
    with pytest.raises(UserError, match=message):
        load(tmp_path, classes="disjoint", val_fraction=0.1 if train == "abc" else 0)


def test_a_word_that_is_neither(tmp_path):
    with pytest.raises(UserError, match="unknown classes 'disjont': did you mean 'disjoint'"):
        load("digits", classes="disjont")
