"""What ``classmates data`` says of a data set."""

import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import classmates
from classmates.cli import main
from classmates.data import Augmentation
from classmates.errors import UserError
from classmates.inspection import inspecting
from classmates.inspection.contact_sheet import augmented_batch
from classmates.inspection.inspecting import count_lines


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two classes of noise, 12 x 10 pixels; 6 and 8 training images, 2 test images each."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for part, counts in (("train", (6, 8)), ("test", (2, 2))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_digits(tmp_path):
    found = classmates.inspect("digits", out=tmp_path / "sheet.png")
    assert found.counts.sum().to_dict() == {"train": 900, "val": 100, "test": 797}
    assert found.counts.index.tolist() == list("0123456789")
    assert found.sizes.to_numpy().tolist() == [[8, 8]] * 3
    assert found.modes.to_dict() == {"L": 1797}
    assert found.duplicates.empty
    assert found.suggestion.model == "resnet8"
    assert Image.open(found.contact_sheet).format == "PNG"
    text = str(found)
    assert "digits: 1,797 images of 10 classes" in text
    assert "all 8x8 pixels" in text
    assert "duplicates      none" in text
    assert max(map(len, text.splitlines())) <= 118


def test_the_command_prints_what_the_function_gives(photos, capsys):
    assert main(["data", "photos", "--val_fraction", "0"]) == 0
    text = capsys.readouterr().out
    assert text == f"{classmates.inspect('photos', val_fraction=0)}\n"
    assert "photos: 18 images of 2 classes" in text
    assert "used            at 12x10 pixels, colour, kept in memory" in text
    assert "dog                   8        2" in text
    assert "all                  14        4" in text
    assert "fewest to train on: 6 of 'cat'; most: 8 of 'dog'" in text
    assert "begin with      recipe small-images: 100 epochs\n" in text
    assert text.endswith("\n  classmates train --data photos --model resnet8 --batch_size 12\n")
    assert "contact sheet   contact_sheet-photos.png" in text
    assert (photos.parent / "contact_sheet-photos.png").exists()


def test_duplicates_across_parts_are_a_warning_and_those_within_one_are_said(photos):
    shutil.copy(photos / "train" / "dog" / "3.png", photos / "test" / "cat" / "leak.png")
    Image.open(photos / "train" / "cat" / "0.png").save(photos / "train" / "cat" / "again.bmp")
    found = classmates.inspect(photos, val_fraction=0)
    assert found.duplicates["across"].tolist() == [False, False, True, True]
    text = str(found)
    assert "WARNING: 2 images have the same pixels as one in another part" in text
    assert text.index("WARNING: the same pixels have two labels; remove the wrong one:") < text.index("WARNING: 2")
    train, test = photos / "train", photos / "test"
    assert text.count(f"  train: {train}/dog/3.png (dog)\n    = test: {test}/cat/leak.png (cat)") == 2
    assert "duplicates      2 images have the same pixels as another of their part:" in text
    assert f"  train: {train}/cat/0.png (cat)\n    = train: {train}/cat/again.bmp (cat)" in text
    (test / "cat" / "leak.png").unlink()
    assert "two labels" not in str(classmates.inspect(photos, val_fraction=0))


def test_an_image_in_two_classes_is_named_once_a_class_and_copies_counted_as_in_loading(photos):
    for name in ("again.png", "third.png"):
        shutil.copy(photos / "train" / "cat" / "0.png", photos / "train" / "cat" / name)
    shutil.copy(photos / "train" / "cat" / "0.png", photos / "train" / "dog" / "zz.png")
    found = classmates.inspect(photos, val_fraction=0.2)
    text = str(found)
    train = photos / "train"
    pair = f"  train: {train}/cat/0.png (cat)\n    = train: {train}/dog/zz.png (dog)\n"
    pair = pair if pair in text else pair.replace("train:", "val:")  # whichever they were drawn for
    assert f"WARNING: the same pixels have two labels; remove the wrong one:\n{pair}" in text
    assert "duplicates      4 images have the same pixels as another of their part:" in text
    assert "note: 4 images of 'photos' have the same pixels as another one" in text
    assert text.count("the same pixels have two labels") == 1  # not in a note again


def test_of_many_duplicates_some_are_shown(photos):
    for number in range(5):
        shutil.copy(photos / "train" / "dog" / "3.png", photos / "train" / "dog" / f"copy{number}.png")
    for number in range(6):
        shutil.copy(photos / "train" / "cat" / f"{number}.png", photos / "train" / "cat" / f"copy{number}.png")
    text = str(classmates.inspect(photos, val_fraction=0))
    assert "duplicates      18 images have the same pixels" in text
    assert "... and 2 more such groups" in text
    for name in (photos / "train" / "cat").glob("copy*"):
        name.unlink()
    assert f"{photos}/train/dog/copy1.png (dog) = 3 more" in str(classmates.inspect(photos, val_fraction=0))


def test_every_duplicate_across_parts_is_listed(photos):
    """So many as ``train`` counts, and says are listed here."""
    for number in range(6):
        shutil.copy(photos / "train" / "cat" / f"{number}.png", photos / "test" / "cat" / f"leak{number}.png")
    text = str(classmates.inspect(photos, val_fraction=0))
    assert "WARNING: 12 images have the same pixels as one in another part" in text
    assert "so scores will be too good; of each group keep those of one part:" in " ".join(text.split())
    assert all(f"= test: {photos}/test/cat/leak{number}.png (cat)" in text for number in range(6))
    assert "more such groups" not in text


def test_damaged_images_do_not_stop_it(photos):
    for number in range(12):
        (photos / "train" / "dog" / f"broken{number}.png").write_text("no image")
    Image.new("L", (30, 30), 77).save(photos / "train" / "dog" / "grey.png")
    Image.new("CMYK", (40, 20)).save(photos / "train" / "cat" / "print.jpg")
    (photos / "train" / "dog" / "notes.txt").write_text("")
    found = classmates.inspect(photos, image_size=16)
    assert len(found.data.unreadable) == 12
    assert found.modes.to_dict() == {"RGB": 18, "L": 1, "CMYK": 1}
    assert found.sizes.to_numpy().tolist() == [[12, 10], [12, 10], [40, 30]]
    text = str(found)
    assert "WARNING: 12 images cannot be read" in text
    assert f"  cannot read the image {photos}/train/dog/broken0.png: it is no image of the formats" in text
    assert text.count("cannot read the image") == 10
    assert "... and 2 more" in text
    assert "skipped" not in text
    assert "3 sizes (width x height): 12x10 to 40x30 pixels, median 12x10" in text
    assert all(f"{count} {mode}" in text for count, mode in ((18, "colour"), (1, "grey"), (1, "CMYK")))
    assert "note: files left out, by their names no images: 1, such as train/dog/notes.txt" in text
    assert "used            at 16x16 pixels" in text
    assert found.suggestion.image_size == 16
    told = " ".join(text.split())
    assert "train without, --on_bad_image skip (improve, compare and sweep: --train.on_bad_image skip):" in told
    command = shlex.split(text.partition("begin with")[2].partition("\n")[2].replace("\\\n", ""))
    options = "--on_bad_image skip --model resnet8 --batch_size 12 --image_size 16"
    assert command == shlex.split(f"classmates train --data '{photos}' {options}")
    for number in range(1, 12):
        (photos / "train" / "dog" / f"broken{number}.png").unlink()
    assert "WARNING: 1 image cannot be read; mend" in str(classmates.inspect(photos, image_size=16))


def test_many_classes_are_shortened_and_long_names_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(30):
        folder = tmp_path / "many" / f"{number:02}{'x' * 40}"
        folder.mkdir(parents=True)
        for shade in range(5):
            Image.new("L", (4, 4), 5 * number + shade).save(folder / f"{shade}.png")
    lines = str(classmates.inspect("many", val_fraction=0)).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("class "))
    firsts = [line.split("x")[0] for line in lines[start + 1 : start + 12]]
    assert firsts == ["00", "01", "02", "03", "04", "... 20 more", "25", "26", "27", "28", "29"]
    assert lines[start + 1] == f"00{'x' * 27}…" + "        4        1"
    assert "fewest" not in "\n".join(lines)
    assert max(map(len, lines)) <= 118


class Noise(torch.utils.data.Dataset):
    """24 images of three classes; images 0 and 3 are the same."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        seed = 0 if index == 3 else index
        return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)), index % 3


def test_a_dataset_of_pythons(tmp_path):
    found = classmates.inspect(Noise(), val_fraction=0, out=tmp_path / "sheet.png")
    assert found.counts.to_numpy().sum() == 24
    assert len(found.duplicates) == 2
    assert "image " in str(found)
    assert str(found).endswith("  classmates.train(data=..., model='resnet8', batch_size=12)")


@pytest.mark.parametrize(("size", "given", "expected"), [(80, None, 0.6), (80, 0.25, 0.25), (10, None, None)])
def test_the_contact_sheet_is_cut_as_training_cuts(tmp_path, monkeypatch, size, given, expected):
    for number in range(24):
        path = tmp_path / "images" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((size, size), 40 + number).convert("RGB").save(path)
    drawn = []

    def augmented(data, augmentation, seed):
        drawn.append(augmentation.crop_scale)
        return augmented_batch(data, augmentation, seed)

    monkeypatch.setattr(inspecting, "augmented_batch", augmented)
    augmentation = Augmentation(crop_scale=given)
    classmates.inspect(tmp_path / "images", augmentation=augmentation, out=tmp_path / "sheet.png")
    assert drawn == [expected]


def test_what_cannot_be_trained_on_is_an_error(photos):
    with pytest.raises(UserError, match=r"sheet\.jpg'; give a file that ends in \.png"):
        classmates.inspect(photos, out="sheet.jpg")
    shutil.rmtree(photos / "train" / "dog")
    with pytest.raises(UserError, match="one class only, 'cat'"):
        classmates.inspect(photos)


def test_a_contact_sheet_that_cannot_be_written_is_told_before_any_image_is_read():
    with pytest.raises(UserError, match=r"'/proc/x/sheet\.png' cannot be written"):
        classmates.inspect("no such data", out="/proc/x/sheet.png")


def test_counts_are_shown_where_no_split_can_be_made(tmp_path):
    for name, count in (("cat", 9), ("hat", 2)):
        for number in range(count):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("L", (8, 8), 10 * number).save(tmp_path / name / f"{number}.png")
    with pytest.raises(UserError, match="class 'hat' has one image beside those of the test set") as error:
        classmates.inspect(tmp_path, out=tmp_path / "sheet.png")
    lines = str(error.value).splitlines()
    assert [line.split() for line in lines[2:]] == [["class", "train"], ["cat", "9"], ["hat", "2"], ["all", "11"]]


def test_columns_of_large_numbers_stay_apart():
    counts = pd.DataFrame({"train": [1_281_167, 7], "test": [123_456_789, 0]}, index=["cat", "dog"])
    assert [line.split() for line in count_lines(counts)] == [
        ["class", "train", "test"],
        ["cat", "1,281,167", "123,456,789"],
        ["dog", "7", "0"],
        ["all", "1,281,174", "123,456,789"],
    ]
    assert len(set(map(len, count_lines(counts)))) == 1
