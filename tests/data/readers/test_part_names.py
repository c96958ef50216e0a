import pytest

from classmates.data.readers.parquet import find_shards
from classmates.data.readers.part_names import part_of, part_within, parts_among
from classmates.data.readers.webdataset import find_tars


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((name, "train") for name in ("train", "Training", "TRAIN", "train_set", "trainset", "seg_train")),
        *((name, "val") for name in ("val", "Valid", "validation", "dev", "val-images")),
        *((name, "test") for name in ("test", "Testing", "eval", "Evaluation", "test set")),
        *((name, None) for name in ("cat", "trains", "tester", "data", "train station", "set", "")),
    ],
)
def test_a_part_by_its_name(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(
            (name, "train")
            for name in ("train", "Training2019", "train0000", "trainset-1", "dev2_train", "0-TRAIN-0")
        ),
        *((name, "val") for name in ("flowers_val", "dev2", "my validation images")),
        *((name, "test") for name in ("test2017", "imagenet1k-eval-0000", "test set", "test_train")),
        *((name, None) for name in ("cat", "trains", "latest0", "set", "0000", "")),
    ],
)
def test_a_part_by_a_word_within_a_name(name, part):
    assert part_within(name) == part


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("train-0000", "test-0000"),
        ("train0000", "test0000"),
        ("train_0", "eval_0"),
        ("Training2019", "Testing2019"),
        ("trainset-0", "testset-0"),
        ("train_images1", "test_images1"),
        ("train-00000-of-00001", "test-00000-of-00001"),
        ("train/0000", "test/0000"),
    ],
)
def test_tar_and_parquet_files_of_one_name_are_of_one_part(tmp_path, train, test):
    for name in (train, test):
        for end in ("tar", "parquet"):
            path = tmp_path / end / f"{name}.{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    tars, shards = find_tars(tmp_path / "tar"), find_shards(tmp_path / "parquet")
    of_shards, others = parts_among(shards, "here")
    assert not others
    for part, name in (("train", train), ("test", test)):
        assert tars[part] == [tmp_path / "tar" / f"{name}.tar"]
        assert shards[of_shards[part]] == [tmp_path / "parquet" / f"{name}.parquet"]
