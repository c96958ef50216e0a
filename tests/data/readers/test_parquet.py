import io

import pytest
from PIL import Image

datasets = pytest.importorskip("datasets")

from classmates.data.loading import load, load_part  # noqa: E402
from classmates.data.readers.parquet import find_shards, list_parquet  # noqa: E402
from classmates.errors import UserError  # noqa: E402


def shard(path, first=0, count=10, names=("cat", "dog"), **columns):
    """A file of images whose red is their number; the classes alternate."""
    cells = []
    for number in range(first, first + count):
        file = io.BytesIO()
        Image.new("RGB", (6, 6), (number, 0, 255)).save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(names=[*names]))
    table = datasets.Dataset.from_dict({"img": cells, "label": [n % 2 for n in range(count)]}, features)
    for name, values in columns.items():
        table = table.add_column(name, values)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path


def names(folder):
    return {
        split: [file.relative_to(folder).as_posix() for file in files] for split, files in find_shards(folder).items()
    }


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("train.parquet", "test.parquet"),
    ],
)
def test_layouts(tmp_path, train, test):
    for name in (train, test):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == {"train": [train], "test": [test]}


def test_numbers_alone_are_training_images(tmp_path):
    for name in ("0001.parquet", "0000.parquet"):
        (tmp_path / name).touch()
    assert names(tmp_path) == {"train": ["0000.parquet", "0001.parquet"]}
    assert find_shards(tmp_path / "nowhere") == {}


def test_several_configurations_need_a_choice(tmp_path):
    for name in ("fine", "coarse"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.parquet").touch()
    with pytest.raises(UserError, match=r"several folders .*: give one of .*coarse, .*fine"):
        find_shards(tmp_path)
    assert names(tmp_path / "fine") == {"train": ["train.parquet"]}


def test_a_missing_shard_is_named(tmp_path):
    for number in (0, 2):
        (tmp_path / f"train-{number:05}-of-00003.parquet").touch()
    with pytest.raises(UserError, match=r"train-00001-of-00003.parquet is missing: .* there are 3"):
        find_shards(tmp_path)


def test_shards_are_one_data_set_in_their_order(tmp_path):
    folder = tmp_path / "my [pets] ü *"  # no pattern for file names
    shard(folder / "train-00000-of-00002.parquet")
    shard(folder / "train-00001-of-00002.parquet", first=10)
    shard(folder / "test-00000-of-00001.parquet", first=100, count=4)
    data = load(folder, val_fraction=0)
    assert data.name == folder.name
    assert data.class_names == ("cat", "dog")
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(20))
    assert data.train.labels.tolist() == [0, 1] * 10
    assert data.test.images[:, 0, 0, 0].tolist() == [100, 101, 102, 103]
    assert data.notes == ()
    larger = load(folder, val_fraction=0, image_size=80)
    assert larger.train.images is None
    assert len(larger.train.paths) == 20


def test_a_shard_that_has_changed_is_read_anew(tmp_path):
    shard(tmp_path / "train.parquet", count=10)
    assert len(load(tmp_path, val_fraction=0).train) == 8
    shard(tmp_path / "train.parquet", count=20)
    assert len(load(tmp_path, val_fraction=0).train) == 16


def test_a_column_of_labels_by_name(tmp_path):
    shard(tmp_path / "train.parquet", coarse=[0] * 5 + [1] * 5)
    with pytest.raises(UserError, match="several columns of labels, label, coarse"):
        load(tmp_path)
    assert load(tmp_path, label="coarse", val_fraction=0).class_names == ("0", "1")
    with pytest.raises(UserError, match=r"label is 'fine', but .* there are: label, coarse"):
        load(tmp_path, label="fine")


def test_a_shard_with_other_columns_is_named(tmp_path):
    shard(tmp_path / "train-00000-of-00002.parquet")
    shard(tmp_path / "train-00001-of-00002.parquet", extra=[0] * 10)
    with pytest.raises(UserError, match=r"00001-of-00002.parquet has the columns img, label, extra, but .*00000"):
        load(tmp_path)


def test_parts_whose_numbers_stand_for_other_classes_are_told(tmp_path):
    """Else the labels of all would be read by the names of the first file, which is that of the test set."""
    shard(tmp_path / "train.parquet", names=("cat", "dog"))
    for others, number, either in (
        (("dog", "cat"), 0, "'(cat|dog)'"),
        (("cat", "dog", "cow"), 2, "'(no class|cow)'"),
    ):
        shard(tmp_path / "test.parquet", names=others)
        with pytest.raises(UserError, match=rf"in 'label' the number {number} is {either} in .* and {either} in "):
            load(tmp_path)


@pytest.mark.parametrize("ends", [("", ""), ("-7d3a6a1c2a9c1e5b", "-99aa6a1c2a9c1e5b")])
def test_a_missing_one_of_the_hubs_older_names_is_named_too(tmp_path, ends):
    for number, end in zip((0, 1), ends, strict=True):
        shard(tmp_path / f"train-{number:05}-of-00002{end}.parquet", first=10 * number)
    assert len(load(tmp_path, val_fraction=0).train) == 16
    (tmp_path / f"train-00000-of-00002{ends[0]}.parquet").unlink()
    with pytest.raises(UserError, match=r"train-00000-of-00002.parquet is missing: the others say that there are 2"):
        load(tmp_path)


def test_a_damaged_shard_is_named(tmp_path):
    path = shard(tmp_path / "train-00000-of-00001.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet cannot be read, it is no parquet file or"):
        load(tmp_path)


def test_what_the_library_stumbles_over_is_told(tmp_path, monkeypatch):
    shards = {"train": [shard(tmp_path / "train.parquet")]}

    def fail(*arguments, **options):
        raise datasets.exceptions.DatasetGenerationError("an error occurred") from OSError("no space left on device")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match=r"parquet files in .* cannot be read: no space left on device"):
        list_parquet(tmp_path, shards, label=None, name="pets")


def test_data_dir_means_nothing_for_a_folder(tmp_path):
    shard(tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"data_dir is 'elsewhere', but the folder .* has no use for it"):
        load(tmp_path, data_dir="elsewhere")


def test_what_is_scored_is_one_part_or_all_where_there_are_none(tmp_path):
    shard(tmp_path / "whole" / "0000.parquet")
    source = load_part(tmp_path / "whole", "test")
    assert source.train is None
    assert len(source.test) == 10
    assert f"every image of {tmp_path / 'whole'} is scored, as it is not divided into parts (test/)" in source.notes
    shard(tmp_path / "parts" / "train.parquet")
    shard(tmp_path / "parts" / "test.parquet", first=10, count=4)
    assert len(load_part(tmp_path / "parts", "test").test) == 4
    with pytest.raises(UserError, match=r"no val images: take another part \(--split train or --split test\)"):
        load_part(tmp_path / "parts", "val")


@pytest.mark.parametrize("column", ["patient_id", "sequence"])
def test_what_is_split_off_divides_no_group(tmp_path, column):
    shard(tmp_path / "train-00000-of-00001.parquet", count=40, **{column: [number // 4 for number in range(40)]})
    for seed in range(3):
        data = load(tmp_path, val_fraction=0.3, seed=seed)
        parts = [set(split.groups.tolist()) for split in (data.train, data.val, data.test)]
        assert [*map(len, parts)] == [6, 2, 2]
        assert len(set.union(*parts)) == 10


def test_a_log_has_no_progress_bars_of_the_library(tmp_path, capfd):
    shard(tmp_path / "train-00000-of-00001.parquet")
    load(tmp_path, val_fraction=0)
    assert "Generating" not in capfd.readouterr().err
    assert not datasets.are_progress_bars_disabled()
