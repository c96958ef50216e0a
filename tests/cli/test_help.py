"""What ``--help`` shows of every command, at the width of the terminal."""

import functools
import re
from importlib import import_module
from shlex import split

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
    assert "in Python" not in text
    assert EXAMPLES[command]
    for example in EXAMPLES[command]:
        assert example in text.replace("\\\n      ", "")


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_examples_can_be_typed(example, tmp_path, monkeypatch, capsys):
    program, command, *words = split(example.partition(" > ")[0])
    assert program == "classmates"
    entry, calls = COMMANDS[command], []
    function = getattr(import_module(entry.home), entry.function)
    monkeypatch.setattr(
        f"{entry.home}.{entry.function}", functools.wraps(function)(lambda **given: calls.append(given))
    )
    monkeypatch.setitem(COMMANDS, command, entry._replace(show=str, written=None, code=lambda result: 0))
    monkeypatch.chdir(tmp_path)
    if "--config" in words:
        config = tmp_path / words[words.index("--config") + 1]
        config.parent.mkdir(parents=True)
        config.write_text("seed: 0")
    assert main([command, *words]) == 0, capsys.readouterr().err
    assert len(calls) == ("--method.help" not in words)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("export", ["Each file of --formats", "With --what embedding", "With --what early_exit", "then --out says"]),
        ("predict", ["photos of each (--support)", "a file that --save_prototypes wrote"]),
    ],
)
def test_what_docstrings_say_of_arguments_is_shown_as_typed(command, shown, columns, capsys):
    assert main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(part in text for part in shown)
    assert "``" not in text


def test_options_of_a_method_are_shown_as_typed(capsys):
    assert main(["train", "--method.help", "SD"]) == 0
    assert "with --method.scale, KL_T is times" in " ".join(capsys.readouterr().out.split())


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
