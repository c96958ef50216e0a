"""Signatures read from the sources are those that Python has, and nothing heavy is imported to read them."""

import subprocess
import sys
from importlib import import_module

import pytest

from classmates._outlines import OUTLINES
from classmates.cli import COMMANDS
from classmates.cli.help import command_parser
from classmates.data.augmentation import Augmentation


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_is_that_of_its_function(command):
    entry = COMMANDS[command]
    outline, function = entry.outline(), getattr(import_module(entry.home), entry.function)
    assert outline is not function
    seen, known = (command_parser(command, one, entry.positions).format_help() for one in (outline, function))
    assert seen == known


def test_dataclasses_have_their_fields_and_defaults():
    assert vars(OUTLINES.named("classmates.data.augmentation", "Augmentation")()) == vars(Augmentation())


def test_what_other_packages_define_stays_a_name():
    module = OUTLINES.named("classmates.training.train", "nn").Module
    assert module.__name__ == "Module"
    assert module[int] | None


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("--help", 0),
        ("train --help", 0),
        ("list", 0),
        ("list models", 0),
        ("train --epohcs 3", 2),
        ("compare x", 2),
        ("compare --epochs 3", 2),
        ("improve --data x --epochs 3", 2),
        ("improve", 2),
        ("predict run", 2),
        ("completion bash", 0),
    ],
)
def test_nothing_heavy_is_imported_for_help_names_and_wrong_flags(typed, code):
    heavy = ("torch", "timm", "lightning", "pandas", "numpy", "sklearn", "matplotlib")
    program = f"""
import sys
from classmates.cli import main
assert main({typed.split()!r}) == {code}
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr.endswith("[]\n")
