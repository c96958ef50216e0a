from typing import Literal

import pytest

from classmates.errors import NonFiniteLoss, UserError, check_choice, first_line, nearest, unknown


def test_exit_codes() -> None:
    assert UserError("").exit_code == 2
    assert NonFiniteLoss("").exit_code == 3
    assert issubclass(UserError, ValueError)
    assert issubclass(NonFiniteLoss, ArithmeticError)


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("MLC", ["MCL", "CORSD", "Baseline"], "did you mean 'MCL'?"),
        ("baseline", ["MCL", "Baseline"], "did you mean 'Baseline'?"),  # capitals do not matter
        ("resnet3", ["resnet32", "resnet34", "vgg16"], "did you mean 'resnet34' or 'resnet32'?"),
        ("nothing like it", ["b", "a"], "there are: a, b"),
        ("x", [], "there are: "),
        (
            "zzz",
            [f"network{i:02}" for i in range(14)],
            f"there are: {', '.join(f'network{i:02}' for i in range(12))} and 2 more",
        ),
    ],
)
def test_nearest(name: str, choices: list[str], message: str) -> None:
    assert nearest(name, choices) == message


def test_nearest_counts() -> None:
    choices = [f"resnet{i}" for i in range(9)]
    assert nearest("resnet", choices, count=2).count("resnet") == 2
    assert nearest("resnet", iter(choices), count=1).count("resnet") == 1


def test_names_in_an_order_of_their_own_are_all_named_in_it() -> None:
    names = [f"step{i}" for i in reversed(range(14))]
    assert nearest("zzz", names, in_order=True) == f"there are: {', '.join(names)}"
    assert str(unknown("step", "zzz", names, in_order=True)).endswith(f": there are: {', '.join(names)}")


def test_names_are_listed_only_where_the_command_lists_them() -> None:
    names = [f"network{i}" for i in range(13)]
    for kind in ("method", "model", "data set"):
        assert str(unknown(kind, "zzz", names)).endswith("'zzz': `classmates list` shows every name")
    assert "classmates list" not in str(unknown("optimizer", "zzz", names))


def test_unknown() -> None:
    error = unknown("method", "MLC", ["MCL", "CORSD"])
    assert isinstance(error, UserError)
    assert str(error) == "unknown method 'MLC': did you mean 'MCL'?"


def test_check_choice_names_the_nearest() -> None:
    for words in (["red", "green"], Literal["red", "green"]):
        check_choice("colour", "red", words)
        with pytest.raises(UserError, match="unknown colour 'gren': did you mean 'green'"):
            check_choice("colour", "gren", words)


def test_first_line_of_an_error() -> None:
    assert first_line(ValueError("this\nand that")) == "this"
    assert first_line(ValueError("\nthat")) == "that"
    assert first_line(AssertionError()) == "AssertionError"
