import subprocess
import sys
from pathlib import Path

import pytest
import torch

from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Shuffled
from classmates.data.loading import load, load_part
from classmates.data.readers import webdataset
from classmates.data.readers.webdataset import find_tars
from classmates.errors import UserError
from classmates.experiments.identity import data_fingerprint, readers
from tests.data.readers.conftest import encoded, pack


def names(folder):
    return {
        part: [file.relative_to(folder).as_posix() for file in files] for part, files in find_tars(folder).items()
    }


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-0000.tar", "test-0000.tar"),
        ("imagenet1k-train-0000.tar", "imagenet1k-eval-0000.tar"),
        ("train/0000.tar", "test/0000.tar"),
        ("TRAIN.tar", "Test.tar"),
    ],
)
def test_layouts(tmp_path, train, test):
    for name in (train, test):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == {"train": [train], "test": [test]}


def test_names_without_a_part_are_training_images_or_ambiguous(tmp_path):
    for name in ("pets-1.tar", "pets-0.tar"):
        (tmp_path / name).touch()
    assert names(tmp_path) == {"train": ["pets-0.tar", "pets-1.tar"]}
    (tmp_path / "val-0.tar").touch()
    with pytest.raises(UserError, match=r"pets-0\.tar is called after no part, but other tar files are"):
        find_tars(tmp_path)
    assert find_tars(tmp_path / "nowhere") == {}


def test_files_that_are_all_called_after_no_part_are_said_to_be_taken_together(tmp_path, tar):
    said = f"2 tar files in {tmp_path} are called after no part (train, val, test): their images are taken together"
    tar(tmp_path / "pets-0.tar")
    assert said not in load(tmp_path).notes
    tar(tmp_path / "pets-1.tar", first=10)
    assert said in load(tmp_path).notes
    assert said in load_part(tmp_path, "test").notes
    for number in range(2):
        (tmp_path / f"pets-{number}.tar").rename(tmp_path / f"train{number}.tar")
    assert said not in load(tmp_path).notes


def test_an_archive_left_beside_class_folders_is_no_shard(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "images.tar").touch()
    assert find_tars(tmp_path) == {}


def test_shards_are_one_data_set_in_their_order(tmp_path, tar):
    folder = tmp_path / "my [pets] ü *"
    tar(folder / "train-0000.tar")
    tar(folder / "train-0001.tar", first=10)
    tar(folder / "test-0000.tar", first=100, count=4)
    for _ in range(2):  # looked up, and from the cache
        data = load(folder, val_fraction=0)
        assert (data.name, data.class_names, data.notes) == (folder.name, ("0", "1"), ())
        assert data.train.images[:, 0, 0, 0].tolist() == list(range(20))
        assert data.train.labels.tolist() == [0, 1] * 10
        assert data.test.images[:, 0, 0, 0].tolist() == [100, 101, 102, 103]
        assert str(data.train.paths[13]) == f"{folder}/train-0001.tar/0013.png"


def test_the_index_is_made_once_and_anew_when_a_shard_has_changed(tmp_path, tar, monkeypatch):
    made = []
    monkeypatch.setattr(
        webdataset, "index_shard", lambda *of, make=webdataset.index_shard: made.append(of) or make(*of)
    )
    tar(tmp_path / "train-0.tar")
    for count, shards in ((10, 1), (10, 1), (20, 2), (20, 2)):
        tar(tmp_path / "train-0.tar", count=count) if count == 20 and len(made) == 1 else None
        assert len(load(tmp_path, val_fraction=0).train) == count * 8 // 10
        assert len(made) == shards


def test_the_index_is_made_anew_when_files_are_known_for_other_parts(tmp_path, tar, monkeypatch):
    tar(tmp_path / "train0.tar")
    tar(tmp_path / "val0.tar", first=10)
    with monkeypatch.context() as before:
        before.setattr(webdataset, "part_within", lambda name: None)
        assert [*load_part(tmp_path, "test").test.labels] == [0, 1] * 10
    assert [*load_part(tmp_path, "train").test.labels] == [0, 1] * 5


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("10", "9"), ("9", "10")),
        (("dog", "cat"), ("cat", "dog")),
        (("007", "1"), ("1", "7")),
    ],
)
def test_classes_are_the_labels_in_order(tmp_path, tar, labels, expected):
    tar(tmp_path / "train.tar", labels=labels)
    data = load(tmp_path, val_fraction=0)
    assert data.class_names == expected
    reds = data.train.images[:, 0, 0, 0]
    written = {str(int(label)) if label.isdecimal() else label: number for number, label in enumerate(labels)}
    assert [expected[label] for label in data.train.labels] == [
        {number: text for text, number in written.items()}[int(red) % 2] for red in reds
    ]


def test_classes_are_named_in_a_file_beside(tmp_path, tar):
    tar(tmp_path / "train.tar", labels=("1", "0"))
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    assert load(tmp_path, val_fraction=0).class_names == ("cat", "dog")
    (tmp_path / "classnames.txt").write_text("\ufeffcat\nd\u00f6g\n", encoding="utf-8")  # as Windows writes it
    assert load(tmp_path, val_fraction=0).class_names == ("cat", "d\u00f6g")
    (tmp_path / "classnames.txt").write_text("cat\nd\u00f6g\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"classnames\.txt cannot be read as names of classes, in UTF-8"):
        load(tmp_path)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    tar(tmp_path / "train.tar", labels=("1", "0", "2"))
    with pytest.raises(UserError, match=r"label '2', which is no class of .*classnames\.txt, which has 2 lines"):
        load(tmp_path)


@pytest.mark.parametrize("named", [False, True])
def test_texts_are_written_as_the_names_of_classes_are(tmp_path, tar, named):
    tar(tmp_path / "train.tar", labels=("cafe\u0301", "owl", "caf\u00e9"))
    tar(tmp_path / "test.tar", first=10, labels=("caf\u00e9", "cafe\u0301"))
    if named:
        (tmp_path / "classnames.txt").write_text("cafe\u0301\nowl", encoding="utf-8")
    data = load(tmp_path, val_fraction=0)
    assert data.class_names == ("caf\u00e9", "owl")
    assert data.train.labels.tolist() == [0, 1, 0] * 3 + [0]
    assert data.test.labels.tolist() == [0] * 10


@pytest.mark.parametrize("kind", ["-1", "", " \n", {"kind": -1}, {"kind": ""}, {"kind": None}])
def test_what_stands_for_no_label(tmp_path, tar, kind):
    """Of all images of a test part: it is not used; of some, or of those to train on: an error."""
    field = isinstance(kind, dict)
    labels = ({"kind": 0}, {"kind": 1}) if field else ("0", "1")
    options = {"label": "kind"} if field else {}
    end = "json" if field else "cls"
    tar(tmp_path / "train.tar", labels=labels, extension=end, count=20)
    tar(tmp_path / "test.tar", labels=(kind,), extension=end)
    data = load(tmp_path, **options)
    assert data.class_names == ("0", "1")
    assert f"the test images of {tmp_path} have no labels, not used" in data.notes
    tar(tmp_path / "test.tar", labels=(labels[0], kind), extension=end)
    said = r"5 of 10 test images have no label \(none, empty or -1\), such as .*test\.tar/0001\.png"
    with pytest.raises(UserError, match=said):
        load(tmp_path, **options)
    tar(tmp_path / "train.tar", labels=(kind,), extension=end)
    with pytest.raises(UserError, match="10 of 10 train images have no label"):
        load(tmp_path, **options)


def test_labels_in_another_member_or_a_field(tmp_path, tar):
    tar(tmp_path / "train.tar", labels=({"kind": "cat"}, {"kind": "dog"}), extension="json")
    assert load(tmp_path, label="kind", val_fraction=0).class_names == ("cat", "dog")
    with pytest.raises(UserError, match=r"10 of 10 train images have no label .*, such as .*train\.tar/0000\.png"):
        load(tmp_path)


def test_what_has_no_label_or_one_that_training_has_not(tmp_path, tar):
    tar(tmp_path / "train.tar", count=20)
    pack(tmp_path / "test.tar", [("a.png", encoded(1))])
    assert f"the test images of {tmp_path} have no labels, not used" in load(tmp_path).notes
    pack(tmp_path / "test.tar", [("a.png", encoded(1)), ("b.png", encoded(2)), ("b.cls", "1")])
    with pytest.raises(UserError, match=r"1 of 2 test images have no label .*, such as .*test\.tar/a\.png"):
        load(tmp_path)
    pack(tmp_path / "test.tar", [("a.png", encoded(1)), ("a.cls", "2")])
    with pytest.raises(UserError, match=r"test images .* label '2', which is no class of the training images"):
        load(tmp_path)
    (tmp_path / "train.tar").unlink()
    with pytest.raises(UserError, match="has no training images, only test"):
        load(tmp_path)


def test_an_image_that_does_not_decode_is_named_or_left_out(tmp_path):
    members = [(f"{n}.{kind}", encoded(n) if kind == "png" else n % 2) for n in range(20) for kind in ("png", "cls")]
    members[6] = ("3.png", encoded(3)[:40])
    pack(tmp_path / "train.tar", members)
    with pytest.raises(UserError, match=r"1 of 20 images .*\n.*cannot read the image .*train\.tar/3\.png"):
        load(tmp_path)
    left = load(tmp_path, on_bad_image="skip", val_fraction=0)
    assert sorted([*left.train.images[:, 0, 0, 0].tolist(), *left.test.images[:, 0, 0, 0].tolist()]) == [
        n for n in range(20) if n != 3
    ]


def test_members_of_no_use_are_noted(tmp_path):
    pack(tmp_path / "train.tar", [("a.png", encoded(1)), ("a.cls", 0), ("a.json", "{}"), ("LICENSE", "free")])
    source = load_part(tmp_path, "train")
    said = f"files in {tmp_path} that are neither image nor label, not used: 2, such as train.tar/LICENSE"
    assert said in source.notes


def test_members_of_which_none_is_an_image_are_told(tmp_path, tar):
    pack(tmp_path / "train.tar", [("a.v2.png", encoded(1)), ("a.v2.cls", 0)])
    with pytest.raises(
        UserError, match=r"the train files of .* hold no image: .*\(not used: train\.tar/a\.v2\.png\)"
    ):
        load(tmp_path)
    tar(tmp_path / "train.tar")
    pack(tmp_path / "test.tar", [("LICENSE", "free")])
    with pytest.raises(UserError, match=r"the test files of .* hold no image"):
        load(tmp_path)


def test_a_data_set_is_known_again_by_its_members(tmp_path, tar):
    tar(tmp_path / "a" / "train.tar", side=70)
    tar(tmp_path / "b" / "train.tar", side=70)
    tar(tmp_path / "c" / "train.tar", side=70, first=10)
    a, b, c = (data_fingerprint({"data": str(tmp_path / name)}) for name in "abc")
    assert a == b != c
    assert webdataset.__name__ in readers(str(tmp_path / "a"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_goes_on_in_mid_epoch_bit_for_bit(tmp_path, tar, num_workers):
    tar(tmp_path / "train-0.tar", count=12, side=80)
    tar(tmp_path / "train-1.tar", first=12, count=12, side=80)
    tar(tmp_path / "test-0.tar", first=30, count=4, side=80)
    data = load(tmp_path, val_fraction=0, image_size=70)
    assert data.train.images is None

    def loader(workers):
        made = train_loader(
            data, EpochSampler(Shuffled(), data.train.labels, 4, seed=3), Augmentation(), seed=5, num_workers=workers
        )
        made.set_epoch(2)
        return made

    whole = [*loader(0)]
    begun = loader(num_workers)
    batches = iter(begun)
    for _ in range(2):
        next(batches)
    state = begun.state_dict()
    going_on = loader(num_workers)
    going_on.load_state_dict(state)
    rest = [*going_on]
    assert len(rest) == len(whole) - 2 == 4
    for batch, expected in zip(rest, whole[2:], strict=True):
        assert torch.equal(batch.indices, expected.indices)
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.labels, expected.labels)


def test_parts_of_different_classes_for_few_shot_learning(tmp_path, tar):
    for first, (part, labels) in enumerate({"train": "01", "val": "23", "test": "45"}.items()):
        tar(tmp_path / f"{part}.tar", first=10 * first, labels=tuple(labels))
    (tmp_path / "classnames.txt").write_text("\n".join("abcdef"))
    data = load(tmp_path, classes="disjoint")
    assert [split.class_names for split in (data.train, data.val, data.test)] == [("a", "b"), ("c", "d"), ("e", "f")]
    assert data.test.labels.tolist() == [0, 1] * 5


def test_the_script_of_the_docs_packs_class_folders(tmp_path):
    text = Path(__file__).parents[3].joinpath("docs", "data.md").read_text(encoding="utf-8")
    script = text.partition("```python file=pack.py\n")[2].partition("```")[0]
    for number in range(12):
        path = (
            tmp_path / "photos" / ("test" if number > 7 else "train") / ("cat", "dog")[number % 2] / f"{number}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number))
    subprocess.run([sys.executable, "-c", script, tmp_path / "photos", tmp_path / "tars"], check=True)
    data, packed = (load(tmp_path / kind, val_fraction=0) for kind in ("photos", "tars"))
    assert packed.class_names == data.class_names == ("cat", "dog")
    for split, other in ((data.train, packed.train), (data.test, packed.test)):
        classes = dict(zip(split.images[:, 0, 0, 0].tolist(), split.labels.tolist(), strict=True))
        assert dict(zip(other.images[:, 0, 0, 0].tolist(), other.labels.tolist(), strict=True)) == classes
