"""What docstrings say of arguments, as a terminal shows it."""

import pytest

from classmates.configuration.arguments import arguments_of, for_terminal, spellings
from classmates.data.augmentation import Augmentation

TYPED = {"formats": "--formats", "run": "RUN", "what": "--what", "save_prototypes": "--save_prototypes"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("With ``formats`` each file of ``run``.", "With --formats each file of RUN."),
        ('``what="early_exit"``, or ``what=embedding``', "--what early_exit, or --what embedding"),
        ("``predict --save_prototypes`` and ``out`` stay", "predict --save_prototypes and out stay"),
        ("formats without quotes stay", "formats without quotes stay"),
        ("Patterns. In Python also one alone. More.", "Patterns. More."),
        ("A table, or in Python any Dataset of a.b", "A table"),
        ("A method; in Python also a class, or a partial of one.", "A method."),
        ("FILE.py:CLASS in a file; run as Python code.", "FILE.py:CLASS in a file; run as Python code."),
    ],
)
def test_arguments_are_shown_as_typed_and_nothing_of_python(text, shown):
    assert for_terminal(text, TYPED) == shown


def test_how_arguments_are_typed():
    def command(run: str, *, out: str | None = None, augmentation: Augmentation = Augmentation()) -> None:
        """Do nothing."""

    typed = spellings(arguments_of(command), ["run"])
    assert (typed["run"], typed["out"], typed["augmentation.flip"]) == ("RUN", "--out", "--augmentation.flip")
