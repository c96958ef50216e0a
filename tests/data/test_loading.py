from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from classmates.data.loading import load, refuse_among_classes
from classmates.errors import UserError


def as_set(images):
    return {bytes(image.flatten().tolist()) for image in images}


@pytest.fixture
def photos(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            image = Image.new("RGB", (6, 6), (number, 100 if name == "cat" else 0, 7))
            image.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_digits():
    data = load("digits")
    assert data.name == "digits"
    assert data.class_names == tuple("0123456789")
    assert data.num_classes == 10
    assert data.channels == 1
    assert data.input_shape == (1, 8, 8)
    assert (len(data.train), len(data.val), len(data.test)) == (900, 100, 797)
    assert not data.flip
    for split in (data.train, data.val, data.test):
        assert split.class_names == data.class_names
        assert split.images.shape == (len(split), 8, 8, 1)
        assert split.images.dtype == torch.uint8
        assert split.images.is_contiguous()
        counts = split.labels.bincount()
        assert counts.max() - counts.min() <= 8
    every = torch.cat([data.train.images, data.val.images, data.test.images])
    raw = load_digits()
    assert sorted(every.sum((1, 2, 3)).tolist()) == sorted((raw.images * 255 / 16).round().sum((1, 2)).tolist())
    values = data.train.images.double() / 255
    assert data.mean == pytest.approx([values.mean().item()])
    assert data.std == pytest.approx([values.std(correction=0).item()])


def test_the_test_set_does_not_depend_on_the_seed_but_validation_does():
    first, other = load("digits", seed=0), load("digits", seed=1)
    assert torch.equal(first.test.images, other.test.images)
    assert torch.equal(first.test.labels, other.test.labels)
    assert as_set(first.val.images) != as_set(other.val.images)
    assert torch.equal(first.val.images, load("digits", seed=0).val.images)
    assert torch.equal(first.train.labels, load("digits", seed=0).train.labels)


def test_train_size_is_taken_from_what_validation_leaves():
    whole, small = load("digits", seed=3), load("digits", seed=3, train_size=500)
    assert len(small.train) == 500
    quotas = whole.train.labels.bincount() * 500 / 900
    assert ((small.train.labels.bincount() - quotas).abs() < 1).all()
    assert torch.equal(whole.val.images, small.val.images)
    assert as_set(small.train.images) <= as_set(whole.train.images)
    assert small.mean == pytest.approx([(small.train.images.double() / 255).mean().item()])
    with pytest.raises(UserError, match=r"train_size is 901.* 900 training images"):
        load("digits", train_size=901)


def test_no_validation():
    data = load("digits", val_fraction=0)
    assert data.val is None
    assert len(data.train) == 1000


def test_digits_at_another_size_and_in_three_channels():
    data = load("digits", image_size=12, channels=3)
    assert data.input_shape == (3, 12, 12)
    assert data.train.images.shape == (900, 12, 12, 3)
    assert len(data.mean) == len(data.std) == 3


def test_a_folder_without_a_test_set(photos):
    data = load(photos)
    assert data.name == "photos"
    assert (len(data.train), len(data.val), len(data.test)) == (29, 3, 8)
    assert data.flip
    [note] = data.notes
    assert note.startswith("no test set given (test/): 20% of the images, 8, were split off")
    parts = [as_set(split.images) for split in (data.train, data.val, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    assert as_set(load(photos, seed=5).test.images) == parts[2]
    assert (data.test.labels == (data.test.images[:, 0, 0, 1] == 0)).all()


def test_given_parts_are_kept(photos):
    (photos / "train").mkdir()
    for name in ("cat", "dog"):
        (photos / name).rename(photos / "train" / name)
        for part, red in (("val", 200), ("test", 210)):
            (photos / part / name).mkdir(parents=True)
            Image.new("RGB", (6, 6), (red, 0, 0)).save(photos / part / name / "0.png")
    data = load(photos)
    assert (len(data.train), len(data.val), len(data.test)) == (40, 2, 2)
    assert data.notes == ()
    assert data.mean[0] == pytest.approx(9.5 / 255)  # the reds 0..19 of train alone
    assert data.std[0] == pytest.approx((33.25**0.5) / 255)


def test_streamed_images_keep_paths_labels_and_statistics_together(photos):
    data = load(photos, image_size=100)
    assert data.input_shape == (3, 100, 100)
    for split in (data.train, data.val, data.test):
        assert split.images is None
        assert [path.parent.name for path in split.paths] == [data.class_names[label] for label in split.labels]
    reds = torch.tensor([float(path.stem) for path in data.train.paths]) / 255
    assert data.mean[0] == pytest.approx(reds.mean().item())
    assert data.std[0] == pytest.approx(reds.std(correction=0).item())


def test_a_dataset_in_python():
    images = torch.randint(256, (60, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = load(TensorDataset(images, torch.arange(4).repeat(15)))
    assert data.name == "TensorDataset"
    assert (len(data.train), len(data.val), len(data.test)) == (43, 5, 12)
    assert as_set(data.test.images) < as_set(images.permute(0, 2, 3, 1))


def test_a_folder_that_is_there_wins_over_a_name(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    assert load("photos").name == "photos"
    photos.rename(photos.parent / "digits")
    data = load("digits")
    assert data.class_names == ("cat", "dog")
    assert any("not the data set of that name" in note for note in data.notes)
    # What is said of files is said of the data set.
    assert len(load("digits", data_dir="digits").class_names) == 10


def test_what_a_text_stands_for(photos, monkeypatch):
    """hf: before folders, folders before names; parquet files before class folders."""
    taken = []

    def stop(kind):
        def find(what, *others, **settings):
            taken.append((kind, str(what)))
            raise UserError("stop")

        return find

    for kind in ("list_hub", "list_parquet", "list_folder", "list_named"):
        monkeypatch.setattr(f"classmates.data.loading.{kind}", stop(kind))
    monkeypatch.chdir(photos.parent)
    (photos.parent / "hf:me").mkdir()
    (photos.parent / "shards").mkdir()
    (photos.parent / "shards" / "train.parquet").touch()
    for data in ("hf:me", "hf:me/set:a", "photos", photos, "./photos/", "shards", "cifar100", "./cifar100"):
        with pytest.raises(UserError, match="stop"):
            load(data)
    assert taken == [
        ("list_hub", "me"),
        ("list_hub", "me/set:a"),
        ("list_folder", "photos"),
        ("list_folder", str(photos)),
        ("list_folder", "photos"),
        ("list_parquet", "shards"),
        ("list_named", "cifar100"),
        ("list_folder", "cifar100"),
    ]


def test_a_folder_for_digits_is_noted_as_not_used(tmp_path):
    assert load("digits").notes == ()
    [note] = load("digits", data_dir=tmp_path / "nowhere").notes
    assert note.startswith(f"data_dir '{tmp_path / 'nowhere'}' is not used: digits comes from ")


def test_too_few_images_for_a_test_set_are_told_what_can_be_done(tmp_path):
    for number in range(8):
        path = tmp_path / f"class{number % 4}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 6), (number, 0, 0)).save(path)
    with pytest.raises(
        UserError, match=r"test set .* put test images into test/ beside train/, or add images"
    ) as told:
        load(tmp_path)
    assert "fraction" not in str(told.value)


def test_settings_that_mean_nothing_are_refused(photos):
    dataset = TensorDataset(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1] * 2))
    for data, what in ((dataset, "a dataset in Python"), (photos, "of class folders")):
        with pytest.raises(UserError, match=f"data_dir is 'x', but .*{what} has no use for it"):
            load(data, data_dir="x")
        with pytest.raises(UserError, match=f"label is 'x', but .*{what} has no use for it"):
            load(data, label="x")


@pytest.mark.parametrize("data", ["", " "])
def test_nothing_is_not_the_folder_one_is_in(data, photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert load(".", val_fraction=0).num_classes > 1
    with pytest.raises(UserError, match="data is empty: give a folder"):
        load(data)


def test_a_name_that_is_not_known():
    with pytest.raises(UserError, match=r"unknown data set 'digit': did you mean 'digits'.*path of a folder"):
        load("digit")
    for path in ("./digits", Path("digits")):
        with pytest.raises(UserError, match="digits does not exist"):
            load(path)


def test_a_class_too_small_to_be_split_is_named(photos):
    (photos / "emu").mkdir()
    Image.new("RGB", (6, 6)).save(photos / "emu" / "0.png")
    with pytest.raises(UserError, match=r"class 'emu' has one image, the test set .*no test/"):
        load(photos)
    Image.new("RGB", (6, 6)).save(photos / "emu" / "1.png")
    left = r"class 'emu' has one image beside those of the test set, the validation set \(val_fraction 0\.1\)"
    with pytest.raises(UserError, match=left):
        load(photos)
    assert load(photos, val_fraction=0).val is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.0}, r"val_fraction is 1\.0"),
        ({"val_fraction": -0.1}, r"val_fraction is -0\.1"),
        ({"val_fraction": 0.001}, r"the validation set \(val_fraction 0\.001\) of 1 of 1000 .* from 10 to 990"),
        ({"channels": 2}, "channels is 2"),
        ({"image_size": 0}, "image_size is 0"),
        ({"seed": -1}, "-1; give one that is 0 or more"),
        ({"train_size": 5}, "train_size is 5.*from 10 to 900"),
        ({"on_bad_image": "skp"}, "unknown on_bad_image 'skp': did you mean 'skip'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        load("digits", **options)


@pytest.mark.parametrize("out", ["runs/one", "cat", "."])
def test_what_is_written_may_not_lie_among_the_classes(photos, out):
    with pytest.raises(UserError, match="would lie among the classes"):
        refuse_among_classes(photos / out, str(photos))


def test_a_folder_that_may_not_be_read_is_named_there_too(photos, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("classmates.data.readers.folder.os.scandir", refuse)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        refuse_among_classes(Path("runs"), str(photos))


def test_beside_parts_and_elsewhere_it_may(photos, tmp_path):
    refuse_among_classes(tmp_path.parent / "runs", photos)
    refuse_among_classes(photos / "runs", "digits")
    whole = tmp_path / "whole"
    whole.mkdir()
    photos.rename(whole / "train")
    (whole / "runs").mkdir()
    refuse_among_classes(whole / "runs" / "one", whole)
    with pytest.raises(UserError, match="would lie among the classes"):
        refuse_among_classes(whole / "train" / "runs", whole)


def test_few_photos_give_one_of_each_class_to_validation(photos):
    for path in photos.glob("*/*.png"):
        if int(path.stem) >= 8:
            path.unlink()
    data = load(photos)  # the test set leaves 13
    assert data.val.labels.bincount().tolist() == [1, 1]
    assert "for validation 2 images are held out, one of each class: 10% are fewer" in data.notes
    with pytest.raises(UserError, match=r"val_fraction 0\.05\) of 1 of 13 images leaves class"):
        load(photos, val_fraction=0.05)
    assert load(photos, val_fraction=0).val is None
