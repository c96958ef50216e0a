import pytest

from classmates.data.readers.part_names import part_of, part_within


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
