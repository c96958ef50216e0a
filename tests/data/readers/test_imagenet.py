import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from classmates.data.loading import load
from classmates.data.readers.by_name import list_named
from classmates.data.readers.imagenet import class_names, imagenet, mini_imagenet, tiny_imagenet
from classmates.errors import UserError

WNIDS = ["n01440764", "n02012849", "n03126707"]  # a tench, and two that are called crane
TRUTH = ["n03126707", "n01440764", "n02012849", "n01440764"]  # of the four validation images


def write(path, shade=0, size=(5, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 255)).save(path)


@pytest.fixture
def root(tmp_path):
    for shade, wnid in enumerate(WNIDS):
        for number in range(4):
            write(tmp_path / "train" / wnid / f"{wnid}_{number}.JPEG", shade)
    for number in range(4):
        write(tmp_path / "val" / f"ILSVRC2012_val_{number + 1:08}.JPEG", number)
    return tmp_path


def synset_labels(root):
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(TRUTH) + "\n")


def kaggle(root):
    rows = [f"ILSVRC2012_val_{number:08},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for number, wnid in enumerate(TRUTH, 1)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]))


def development_kit(root):
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    numbers = {WNIDS[0]: 490, WNIDS[1]: 7, WNIDS[2]: 900}  # in no order of theirs
    kind = np.dtype([("ILSVRC2012_ID", object), ("WNID", object), ("words", object)])
    synsets = np.array([(number, wnid, "words") for wnid, number in numbers.items()], dtype=kind)
    savemat(folder / "meta.mat", {"synsets": synsets[:, None]})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{numbers[wnid]}\n" for wnid in TRUTH))


@pytest.mark.parametrize("publish", [synset_labels, kaggle, development_kit])
def test_validation_images_without_folders_get_their_published_classes(root, publish):
    publish(root)
    found = imagenet(root)
    assert found.class_names == ("tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)")
    assert found.parts["train"].labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [path.parent.name for path in found.parts["train"].paths] == [wnid for wnid in WNIDS for _ in range(4)]
    test = found.parts["test"]
    assert {path.name[-6]: WNIDS[label] for path, label in zip(test.paths, test.labels.tolist(), strict=True)} == {
        str(number): wnid for number, wnid in enumerate(TRUTH, 1)
    }
    assert "val" not in found.parts
    assert any("published validation images are the test set" in note for note in found.notes)


def test_validation_images_in_class_folders(root):
    for number, wnid in enumerate(TRUTH, 1):
        file = root / "val" / f"ILSVRC2012_val_{number:08}.JPEG"
        (root / "val" / wnid).mkdir(exist_ok=True)
        file.rename(root / "val" / wnid / file.name)
    test = imagenet(root).parts["test"]
    assert test.labels.tolist() == [0, 0, 1, 2]
    (root / "val" / WNIDS[2]).rename(root / "val" / "n09999999")
    with pytest.raises(UserError, match="train/ has 3, val/ others or 3"):
        imagenet(root)


def test_kaggles_folders(root, tmp_path):
    kaggle(root)
    place = tmp_path / "all" / "ILSVRC" / "Data" / "CLS-LOC"
    place.mkdir(parents=True)
    for name in ("train", "val"):
        (root / name).rename(place / name)
    (root / "LOC_val_solution.csv").rename(tmp_path / "all" / "LOC_val_solution.csv")
    assert len(imagenet(tmp_path / "all").parts["test"]) == 4


def test_what_is_missing_of_imagenet_is_named(root, tmp_path):
    with pytest.raises(UserError, match=r"none of LOC_val_solution.csv, .*ground_truth.txt is in"):
        imagenet(root)
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(TRUTH[:3]))
    with pytest.raises(UserError, match=r"gives the classes of 3 images, but .*val has 4"):
        imagenet(root)
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join([*TRUTH[:3], "n09999999"]))
    with pytest.raises(UserError, match=r"00000004.JPEG the class n09999999, which is not known"):
        imagenet(root)
    (root / "val").rename(root / "other")
    with pytest.raises(UserError, match=r"imagenet: .* has no val\. Unpack .*ILSVRC2012_img_val.tar.*--data_dir"):
        imagenet(root)
    development_kit(root)
    (root / "other").rename(root / "val")
    (root / "imagenet_2012_validation_synset_labels.txt").unlink()
    (root / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").unlink()
    with pytest.raises(UserError, match=r"meta.mat cannot be read"):
        imagenet(root)


@pytest.fixture
def tiny(tmp_path):
    place = tmp_path / "tiny-imagenet-200"
    for wnid in WNIDS[:2]:
        for number in range(3):
            write(place / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", number)
        (place / "train" / wnid / f"{wnid}_boxes.txt").write_text("boxes")
    rows = []
    for number in range(4):
        write(place / "val" / "images" / f"val_{number}.JPEG", number)
        rows.append(f"val_{number}.JPEG\t{WNIDS[number % 2]}\t0\t1\t2\t3")
    (place / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    return place


def test_tiny_imagenet(tiny):
    for folder in (tiny, tiny.parent):
        found = tiny_imagenet(folder)
        assert found.class_names == ("tench, Tinca tinca", "crane")
        assert found.parts["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
        test = found.parts["test"]
        assert [path.stem for path in test.paths] == ["val_0", "val_2", "val_1", "val_3"]
        assert test.labels.tolist() == [0, 0, 1, 1]
    data = load("tiny-imagenet", data_dir=tiny.parent, val_fraction=1 / 3)
    assert (len(data.train), len(data.val), len(data.test)) == (4, 2, 4)
    assert any("published validation images" in note for note in data.notes)


def test_what_is_missing_of_tiny_imagenet_is_named(tiny):
    annotations = tiny / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text() + "val_9.JPEG\tn01440764\t0\t0\t0\t0\n")
    with pytest.raises(UserError, match=r"val_9\.JPEG"):  # it is not there
        load("tiny-imagenet", data_dir=tiny)
    annotations.unlink()
    with pytest.raises(UserError, match=r"tiny-imagenet-200 has no val/val_annotations.txt\. Unpack tiny"):
        tiny_imagenet(tiny.parent)


def test_mini_imagenet_from_tables(tmp_path):
    for part, wnid in zip(("train", "val", "test"), WNIDS, strict=True):
        names = [f"{wnid}{number:08}.jpg" for number in range(10)]
        for shade, name in enumerate(names):
            write(tmp_path / "images" / name, shade)
        (tmp_path / f"{part}.csv").write_text("\n".join(["filename,label", *(f"{name},{wnid}" for name in names)]))
    found = mini_imagenet(tmp_path)
    assert found.parts.keys() == {"train"}
    assert found.parts["train"].labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    data = load("mini-imagenet", data_dir=tmp_path, val_fraction=0)
    assert (len(data.train), len(data.test)) == (24, 6)
    val = (tmp_path / "val.csv").read_text()
    for more, said in (
        (f"other.jpg,{WNIDS[0]}", f"has the class {WNIDS[0]} in two of its tables"),
        (val.splitlines()[1], "in two rows of its tables"),
    ):
        (tmp_path / "val.csv").write_text(f"{val}\n{more}")
        with pytest.raises(UserError, match=said):
            mini_imagenet(tmp_path)
    (tmp_path / "val.csv").unlink()
    with pytest.raises(UserError, match=r"mini-imagenet: .* has no val\.csv"):
        mini_imagenet(tmp_path)


def test_mini_imagenet_from_class_folders(tmp_path):
    for part, wnid in zip(("test", "train", "val"), WNIDS, strict=True):
        write(tmp_path / "mini-imagenet" / part / wnid / "a.jpg")
    found = list_named("mini-imagenet", tmp_path, None)
    assert found.class_names == ("tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)")
    assert [path.parent.parent.name for path in found.parts["train"].paths] == ["test", "train", "val"]
    assert found.parts["train"].labels.tolist() == [0, 1, 2]


def test_a_class_of_mini_imagenet_in_two_parts_is_no_part_of_it(tmp_path):
    for part in ("train", "val", "test"):
        write(tmp_path / "mini-imagenet" / part / WNIDS[0] / f"{part}.jpg")
    with pytest.raises(UserError, match=r"has n01440764 in train/n01440764 and in val/, .*--data .*mini-imagenet\)"):
        mini_imagenet(tmp_path)


def damaged(file, text):
    return lambda root: (root / file).write_text(text)


@pytest.mark.parametrize(
    ("read", "change", "message"),
    [
        (tiny_imagenet, damaged("val/val_annotations.txt", "a\tn1\nb\n"), "has nothing for file or wnid in line 2"),
        (tiny_imagenet, damaged("val/val_annotations.txt", "a\n"), "val_annotations.txt cannot be read as a table"),
        (imagenet, damaged("LOC_val_solution.csv", "ImageId,Classes\na,b\n"), "has no column PredictionString, but"),
        (
            imagenet,
            damaged("LOC_val_solution.csv", "ImageId,PredictionString\na,n1 1\na,n1 1\n"),
            r"LOC_val_solution\.csv has two rows of a: keep one",
        ),
        (
            mini_imagenet,
            damaged("val.csv", "class_name,image_name\na,b\n"),
            r"val\.csv has no column filename, but class",
        ),
    ],
)
def test_a_damaged_table_is_named(read, change, message, tiny):
    (tiny / "images").mkdir()
    for part in ("train", "test"):
        (tiny / f"{part}.csv").write_text("filename,label\na.jpg,n1\n")
    if read is not tiny_imagenet:
        shutil.rmtree(tiny / ("val/images" if read is imagenet else "train"))
    change(tiny)
    with pytest.raises(UserError, match=message):
        read(tiny)


def test_class_names_are_words_where_there_are_some():
    assert class_names(["n01440764", "n00000000"]) == ["tench, Tinca tinca", "n00000000"]
