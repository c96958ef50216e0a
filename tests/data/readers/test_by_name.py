import io

import pytest
from PIL import Image

from classmates.data.readers.by_name import NAMED, list_named
from classmates.data.readers.cache import cache_folder
from classmates.errors import UserError

datasets = pytest.importorskip("datasets")


def write_shard(path, columns):
    """Six images and columns of class numbers, which name their classes."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (9, 8, 7)).save(file, "PNG")
    kinds = {name: datasets.ClassLabel(names=["a", "b"]) for name in columns}
    features = datasets.Features(img=datasets.Image(), **kinds)
    cells = {"img": [{"bytes": file.getvalue(), "path": None}] * 6, **columns}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(cells, features).to_parquet(path)


LABELS = {"fine_label": [0, 1] * 3, "coarse_label": [1, 1, 1, 0, 0, 0]}


@pytest.mark.parametrize("place", ["train.parquet", "cifar100/train.parquet", "cifar100/data/train.parquet"])
def test_parquet_files_stand_in_for_the_publishers_own(tmp_path, place):
    write_shard(tmp_path / place, LABELS)
    found = list_named("cifar100", tmp_path, None)
    assert found.name == "cifar100"
    assert found.parts["train"].labels.tolist() == LABELS["fine_label"]
    assert list_named("cifar100", tmp_path, "coarse").parts["train"].labels.tolist() == LABELS["coarse_label"]


def test_parquet_files_that_may_be_of_another_set_are_told(tmp_path):
    write_shard(tmp_path / "train.parquet", {"label": [0, 1] * 3})
    (note,) = list_named("digits", tmp_path, None).notes
    assert note == f"the parquet files in {tmp_path} are taken for those of digits"


def test_another_sets_parquet_files_do_not(tmp_path):
    write_shard(tmp_path / "cifar100" / "train.parquet", LABELS)
    with pytest.raises(UserError, match=r"cub200: .* has no images"):
        list_named("cub200", tmp_path, None)


def test_mirrored_characters_are_others(tmp_path):
    write_shard(tmp_path / "train.parquet", {"label": [0, 1] * 3})
    assert not list_named("omniglot", tmp_path, None).flip
    assert list_named("fashion-mnist", tmp_path, None).flip


def test_labels_to_choose_from():
    with pytest.raises(UserError, match="unknown label of cifar100 'course': did you mean 'coarse'"):
        list_named("cifar100", None, "course")
    with pytest.raises(UserError, match="label is 'fine', but digits has one kind of labels only"):
        list_named("digits", None, "fine")


@pytest.mark.parametrize("name", ["imagenet", "tiny-imagenet", "mini-imagenet", "cub200"])
def test_where_files_are_looked_for(name, tmp_path):
    with pytest.raises(UserError, match=f"{name}: .*{tmp_path}.* --data_dir where it is"):
        list_named(name, tmp_path, None)
    with pytest.raises(UserError, match=f"{name}: {cache_folder() / 'data'}"):
        list_named(name, None, None)


def test_every_reader_says_what_it_reads():
    for known in NAMED.values():
        assert known.readers
        assert all((reader.__doc__ or "").strip() for reader in known.readers)
