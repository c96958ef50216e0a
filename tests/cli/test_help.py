"""What ``--help`` shows of every command, at the width of the terminal."""

import re

import pytest

from classmates.cli import COMMANDS, main
from classmates.cli.help import EXAMPLES, TOPICS
from classmates.configuration.arguments import arguments_of


@pytest.fixture(params=[80, 120])
def columns(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


@pytest.mark.parametrize("typed", [[], ["--help"], ["-h"]])
def test_the_overview_has_a_line_for_each_command_and_three_examples(typed, columns, capsys):
    assert main(typed) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    for command in COMMANDS:
        assert sum(line.split()[:1] == [command] for line in lines) == 1
    assert sum(line.startswith("  classmates ") for line in lines) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_argument_at_any_width(command, columns, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    for name, argument in arguments_of(COMMANDS[command].outline()).items():
        assert argument.help, f"{command}: the docstring says nothing of {name}"
        assert (name.upper() if name in COMMANDS[command].positions else f"--{name}") in text
    assert "Union" not in text
    assert "%%" not in text
    assert "--callbacks" not in text
    for example in EXAMPLES.get(command, ()):
        assert example in text.replace("\\\n      ", "")


@pytest.mark.parametrize("command", TOPICS)
def test_every_argument_has_its_topic(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "\nOptions:\n" not in text
    assert all(f"\n{title}:\n" in text for title in TOPICS[command].values())
    assert TOPICS[command].keys() <= arguments_of(COMMANDS[command].outline()).keys()


def test_help_of_a_method_shows_its_options_with_types_and_defaults(columns, capsys):
    assert main(["train", "--method.help", "CORSD"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    assert "--method.alpha NUMBER" in text
    assert "--method.kl_reduction batchmean|mean" in text
    assert re.search(r"--method.depths INT [^[]*\[4\]", text)
    assert "--method.network" not in text
