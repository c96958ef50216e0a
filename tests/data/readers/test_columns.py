import pytest

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")

from classmates.data.readers.columns import class_numbers, label_column  # noqa: E402
from classmates.errors import UserError  # noqa: E402


def table(kind, labels):
    return datasets.Dataset(pyarrow.table({"species": pyarrow.array(labels, kind)}))


@pytest.mark.parametrize("kind", [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)])
def test_labels_may_be_whole_numbers_of_any_type(kind):
    train = table(kind, [30, 7, 30, 100])
    assert label_column(train.features, None, "here") == "species"
    names, numbers = class_numbers({"train": train, "test": table(kind, [None, None])}, "species", "here")
    assert names == ("7", "30", "100")
    assert numbers.keys() == {"train"}
    assert numbers["train"].tolist() == [1, 0, 1, 2]
    with pytest.raises(UserError, match=r"1 of 3 rows of the train split of here have no species \(empty or -1\)"):
        class_numbers({"train": table(kind, [7, None, 30])}, "species", "here")


def test_a_label_that_64_bits_with_a_sign_do_not_hold_is_told():
    said = "labels 'species' of here are too large .*18446744073709551615.*: number the classes from 0"
    with pytest.raises(UserError, match=said):
        class_numbers({"train": table("uint64", [0, 2**64 - 1])}, "species", "here")


@pytest.mark.parametrize("labels", [[False, True], [0.0, 1.0]])
@pytest.mark.parametrize("asked", [None, "species"])
def test_a_column_of_another_type_has_no_labels(labels, asked):
    with pytest.raises(UserError, match=r"here has no .*column of labels"):
        label_column(table(None, labels).features, asked, "here")
