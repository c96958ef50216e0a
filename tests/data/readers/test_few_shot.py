import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import Omniglot

from classmates.data.fingerprints import split_hash
from classmates.data.loading import load
from classmates.data.readers import few_shot
from classmates.data.readers.by_name import list_named
from classmates.errors import UserError

datasets = pytest.importorskip("datasets")

CHOSEN = [*few_shot.CIFAR_FS["val"], *few_shot.CIFAR_FS["test"]]
FINE = sorted([*CHOSEN, *(f"other {number:02}" for number in range(64))])


def png(shade):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade % 256, shade // 256, 3)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def cifar100(tmp_path):
    """Two training images and a test image of 100 classes; class n is of superclass n % 20."""
    kinds = {
        "fine_label": datasets.ClassLabel(names=FINE),
        "coarse_label": datasets.ClassLabel(names=[f"super {number}" for number in range(20)]),
    }
    features = datasets.Features(img=datasets.Image(), **kinds)
    for part, labels, first in (("train", [*range(100), *range(100)], 0), ("test", [*range(100)], 200)):
        images = [png(first + number) for number in range(len(labels))]
        cells = {"img": images, "fine_label": labels, "coarse_label": [label % 20 for label in labels]}
        (tmp_path / "cifar100").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(cells, features).to_parquet(tmp_path / "cifar100" / f"{part}.parquet")
    return tmp_path


def shades(split):
    return (split.images[:, 0, 0, 0].long() + 256 * split.images[:, 0, 0, 1].long()).tolist()


def test_cifar_fs(cifar100):
    data = load("cifar-fs", data_dir=cifar100, classes="disjoint")
    assert data.name == "cifar-fs"
    assert sorted(data.val.class_names) == sorted(few_shot.CIFAR_FS["val"])
    assert sorted(data.test.class_names) == sorted(few_shot.CIFAR_FS["test"])
    assert [len(split.class_names) for split in (data.train, data.val, data.test)] == [64, 16, 20]
    for split in (data.train, data.val, data.test):
        assert split.labels.bincount().tolist() == [3] * len(split.class_names)  # of both published parts
        expected = [FINE[shade % 100] for shade in shades(split)]
        assert [split.class_names[label] for label in split.labels] == expected
    assert data.notes == ()


def test_the_lists_of_cifar_fs_are_whole():
    assert [len(few_shot.CIFAR_FS[part]) for part in ("val", "test")] == [16, 20]
    assert len(set(CHOSEN)) == 36


def test_fc100(cifar100):
    data = load("fc100", data_dir=cifar100 / "cifar100", classes="disjoint")
    found = {part: {FINE.index(name) % 20 for name in getattr(data, part).class_names} for part in ("val", "test")}
    assert found == {"val": {8, 11, 13, 16}, "test": {0, 7, 12, 14}}
    assert [len(split.class_names) for split in (data.train, data.val, data.test)] == [60, 20, 20]


def test_sets_for_few_shot_learning_alone(cifar100):
    for name in ("cifar-fs", "fc100", "tiered-imagenet"):
        with pytest.raises(UserError, match=f"{name} is a data set for few-shot learning"):
            load(name, data_dir=cifar100)


def test_twins_of_a_published_set_are_noted(cifar100):
    features = datasets.Dataset.from_parquet(str(cifar100 / "cifar100" / "test.parquet")).features
    labels = [FINE.index("other 00"), FINE.index("whale")]
    cells = {"img": [png(999)] * 2, "fine_label": labels, "coarse_label": [0, 0]}
    datasets.Dataset.from_dict(cells, features).to_parquet(cifar100 / "cifar100" / "test.parquet")
    [note] = load("cifar-fs", data_dir=cifar100, classes="disjoint").notes
    assert note.startswith("images of 'cifar-fs' with the same pixels as one in another part: 1, such as ")
    assert "of class 'other 00' (train)" in note
    assert "of class 'whale' (test)" in note


def test_another_set_is_split_by_its_classes(cifar100):
    data = load("cifar100", data_dir=cifar100, classes="disjoint", label="coarse")
    assert [len(split.class_names) for split in (data.train, data.val, data.test)] == [14, 2, 4]
    assert sum(map(len, (data.train, data.val, data.test))) == 300
    assert "put together" in data.notes[0]


def test_omniglot_turned_is_other_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(few_shot, "OMNIGLOT_TRAINING", 5)
    halves = dict(zip(Omniglot.zips_md5, ({"Greek": 2, "Armenian": 2}, {"Angelic": 1, "Tengwar": 2}), strict=True))
    random = np.random.default_rng(0)
    drawings = {}
    for half, alphabets in halves.items():
        for alphabet, count in alphabets.items():
            for number in range(1, count + 1):
                character = f"{alphabet}/character{number:02}"
                (tmp_path / half / character).mkdir(parents=True)
                drawings[character] = random.integers(0, 2, (6, 6), dtype=np.uint8) * 255
                Image.fromarray(drawings[character]).convert("1").save(tmp_path / half / character / "0.png")
    data = load("omniglot", data_dir=tmp_path, classes="disjoint")
    upright = {
        "train": ["Greek/character01", "Greek/character02", "Angelic/character01"],
        "val": ["Armenian/character01", "Armenian/character02"],
        "test": ["Tengwar/character01", "Tengwar/character02"],
    }
    for part, characters in upright.items():
        split = getattr(data, part)
        turned = [(name, turn) for name in sorted(characters, key=[*drawings].index) for turn in range(4)]
        assert sorted(split.class_names) == sorted(f"{name}/rot{90 * turn:03}" for name, turn in turned)
        for index, label in enumerate(split.labels):
            name, _, turn = split.class_names[label].rpartition("/rot")
            expected = np.rot90(drawings[name], int(turn) // 90)
            assert np.array_equal(split.images[index, :, :, 0].numpy(), expected)
    assert not data.flip
    assert data.channels == 1


def test_turned_files_are_taken_by_their_numbers(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
    turned = few_shot.Turned([path, path], torch.arange(8)).take(torch.tensor([5, 0]))
    assert len(turned) == 2
    assert turned[0].size == (3, 4)
    assert turned[1].size == (4, 3)


def test_a_character_that_cannot_be_read_is_named_or_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(few_shot, "OMNIGLOT_TRAINING", 5)
    alphabets = dict(zip(Omniglot.zips_md5, (("Greek", "Armenian"), ("Angelic", "Tengwar")), strict=True))
    names = {half: [f"{name}/{n}" for name in both for n in (1, 2)] for half, both in alphabets.items()}
    write_classes(tmp_path, names, count=4)
    broken = next(tmp_path.rglob("0.png"))
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(UserError, match=rf"4 of 128 images .*\n.*cannot read the image {broken}"):
        load("omniglot", data_dir=tmp_path, classes="disjoint")
    data = load("omniglot", data_dir=tmp_path, classes="disjoint", on_bad_image="skip")
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 124


def test_cub_by_species(tmp_path):
    species = [f"{number:03}.Bird" for number in range(1, 9)]
    rows = {"images": [], "image_class_labels": [], "train_test_split": []}
    for number in range(1, 17):
        name = species[(number - 1) % 8]
        (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (number, 0, 255)).save(tmp_path / "images" / name / f"{number}.jpg")
        values = (f"{name}/{number}.jpg", (number - 1) % 8 + 1, int(number <= 8))
        for table, value in zip(rows, values, strict=True):
            rows[table].append(f"{number} {value}")
    rows["classes"] = [f"{number} {name}" for number, name in enumerate(species, 1)]
    for name, lines in rows.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    data = load("cub200", data_dir=tmp_path, classes="disjoint")
    assert data.train.class_names == ("001.Bird", "003.Bird", "005.Bird", "007.Bird")
    assert data.val.class_names == ("002.Bird", "006.Bird")
    assert data.test.class_names == ("004.Bird", "008.Bird")
    assert sorted(int(path.stem) for path in data.test.paths) == [4, 8, 12, 16]


def write_classes(root, parts, count=2):
    shade = iter(range(256))
    for part, names in parts.items():
        for name in names:
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                Image.new("RGB", (5, 5), (next(shade), 0, 0)).save(root / part / name / f"{number}.png")


@pytest.mark.parametrize("name", ["mini-imagenet", "tiered-imagenet"])
def test_folders_of_a_set_cut_from_imagenet(tmp_path, name):
    write_classes(tmp_path / name.replace("-", "_"), {"train": ["n1", "n2", "n3"], "val": ["n4", "n5"]})
    write_classes(tmp_path / name.replace("-", "_"), {"test": ["n6", "n7"]}, count=1)
    [note] = (listing := list_named(name, tmp_path, None, "disjoint")).notes
    assert listing.name == name
    assert listing.parts["val"].class_names == ("n4", "n5")
    published = {"mini-imagenet": "64 train, 16 val, 20 test classes of 600 images each"}
    assert note == (
        f"{name} was published with {published.get(name, '351 train, 97 val, 160 test classes')}; here are 3 train, "
        "2 val, 2 test, of 1 to 2 images"
    )


def test_tables_of_classes_into_an_imagenet(tmp_path):
    write_classes(tmp_path / "imagenet", {"train": ["n1", "n2", "n3", "n4"]})
    (tmp_path / "mini-imagenet").mkdir()
    for part, names in {"train": ["n1", "n3"], "test": ["n2", "n4"]}.items():
        rows = ["class_name,image_name", *(f"{name},0.png" for name in names)]
        (tmp_path / "mini-imagenet" / f"{part}.csv").write_text("\n".join(rows))
    data = load("mini-imagenet", data_dir=tmp_path, classes="disjoint", val_fraction=0)
    assert data.train.class_names == ("n1", "n3")
    assert len({split_hash(replace(split, images=None)) for split in (data.train, data.test)}) == 2
    assert [str(path.relative_to(tmp_path)) for path in data.test.paths] == [
        "imagenet/train/n2/0.png",
        "imagenet/train/n4/0.png",
    ]


def test_parquet_files_of_a_published_set(tmp_path):
    names = ["a", "b", "c", "d"]
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    for place, (part, labels) in enumerate({"train": [3, 1, 3], "test": [0, 2]}.items()):
        cells = {"image": [png(9 * place + number) for number in range(len(labels))], "label": labels}
        datasets.Dataset.from_dict(cells, features).to_parquet(tmp_path / f"{part}.parquet")
    for data in ("mini-imagenet", tmp_path):
        listing = load(
            data, data_dir=tmp_path if data == "mini-imagenet" else None, classes="disjoint", val_fraction=0
        )
        assert listing.train.class_names == ("b", "d")
        assert listing.test.class_names == ("a", "c")
        assert listing.train.labels.tolist() == [1, 0, 1]


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"mini-imagenet: .* has no train/, .* nor a folder mini-imagenet/ that has"):
        load("mini-imagenet", data_dir=tmp_path, classes="disjoint")
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(b"")
    with pytest.raises(UserError, match=r"mini-imagenet-cache-train\.pkl is a pickle"):
        load("mini-imagenet", data_dir=tmp_path, classes="disjoint")


def test_json_of_folders_of_tiered_imagenet(tmp_path):
    write_classes(tmp_path / "ILSVRC2012", {"train": ["n1", "n2", "n3", "n4"]})
    place = tmp_path / "tiered_imagenet"
    place.mkdir()
    for part, names in {"train": ["n3", "n1"], "test": ["n2", "n4"]}.items():
        content = {"class_names": names, "class_roots": [f"./data/tiered_imagenet/images/{name}" for name in names]}
        (place / f"{part}.json").write_text(json.dumps(content))
    data = load("tiered-imagenet", data_dir=tmp_path, classes="disjoint", val_fraction=0)
    assert data.train.class_names == ("n1", "n3")
    assert len(data.train) == len(data.test) == 4
