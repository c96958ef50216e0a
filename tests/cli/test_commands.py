"""Commands by other names than theirs."""

import pytest

from classmates.cli import main
from classmates.cli.commands import COMMANDS, ELSEWHERE, unknown_command


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("test", "'evaluate'"),
        ("eval", "'evaluate'"),
        ("infer", "'predict'"),
        ("fit", "'train'"),
        ("help", "'--help'"),
        ("trian", "'train' or 'transfer'"),
    ],
)
def test_the_command_that_is_meant_is_told(word, meant, capsys):
    assert main([word]) == 2
    assert capsys.readouterr().err == f"classmates: error: unknown command '{word}': did you mean {meant}?\n"


def test_where_none_is_meant_all_are_named_in_the_order_of_the_overview():
    assert str(unknown_command("xyzzy")) == f"unknown command 'xyzzy': there are: {', '.join(COMMANDS)}"


def test_other_names_are_of_commands_that_there_are():
    assert not ELSEWHERE.keys() & COMMANDS.keys()
    assert {*ELSEWHERE.values()} <= {*COMMANDS, "--help", "--version"}
