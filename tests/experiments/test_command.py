"""``classmates compare`` and ``sweep`` as they are typed."""

import functools
from shlex import split

import pytest

from classmates.cli import COMMANDS, main
from classmates.experiments.compare import compare
from classmates.experiments.improve import improve
from classmates.experiments.sweep import sweep


@pytest.fixture
def called_with(monkeypatch):
    """Puts the command line to work and gives the arguments that the function would have got."""
    calls = []
    for name, function in (("compare", compare), ("improve", improve), ("sweep", sweep)):

        @functools.wraps(function)
        def note(**arguments):
            calls.append(arguments)

        monkeypatch.setattr(f"classmates.experiments.{name}.{name}", note)
        monkeypatch.setitem(COMMANDS, name, COMMANDS[name]._replace(show=lambda result: ""))

    def command(typed):
        assert main(split(typed)) == 0
        return calls[-1]

    return command


def test_lists_are_typed_with_commas(called_with):
    arguments = called_with(
        "compare --methods \"Baseline,MCL(peers=2, start='same'),CORSD\" --model resnet8 --data a/b,digits --seeds 3"
    )
    assert arguments["methods"] == ["Baseline", "MCL(peers=2, start='same')", "CORSD"]
    assert arguments["models"] == ["resnet8"]
    assert arguments["data"] == ["a/b", "digits"]
    assert arguments["seeds"] == 3
    assert called_with("compare --seeds 1,4 --methods [MCL,DML]")["seeds"] == [1, 4]


def test_settings_of_train_and_a_flag_alone(called_with):
    arguments = called_with(
        "compare --methods MCL --dry-run --train.lr 0.1 --train.method.peers 2 --train.report false --budget time"
    )
    assert arguments["train"] == {"lr": 0.1, "method.peers": 2, "report": False}
    assert arguments["dry_run"] is True
    assert arguments["budget"] == "time"
    assert called_with("compare --dry_run false")["dry_run"] is False


def test_the_space_of_a_sweep(called_with):
    arguments = called_with("sweep --method MCL --space.method.beta [0.01,0.1] --space.lr 'loguniform(0.01, 1)'")
    assert arguments["space"] == {"method.beta": [0.01, 0.1], "lr": "loguniform(0.01, 1)"}


def test_what_improve_is_given(called_with):
    arguments = called_with("improve --data ./photos --methods MCL,DML --max_time 1h --train.epochs 3")
    assert (arguments["data"], arguments["model"], arguments["methods"]) == ("./photos", None, ["MCL", "DML"])
    assert (arguments["max_time"], arguments["train"]) == ("1h", {"epochs": 3})


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("compare --methods MLC", "unknown method 'MLC'"),
        ("compare --method MCL --model resnet9", "unknown model 'resnet9'"),
        ("compare --methods MCL --seeds 0", "seeds is 0"),
        ("compare --methods MCL --budget money", "'--budget' takes epochs|passes|steps|time"),
        ("compare --recipe papers/nothing", "unknown recipe 'papers/nothing'"),
        ("compare --methods MCL --refrence MCL", "unknown flag '--refrence'"),
        ("compare --methods MCL --train.epohcs 3", "unknown key 'epohcs' in --train"),
        ("improve --methods MCL", "improve needs --data TEXT: name or folder of a data set"),
        ("improve --data digits --max_time 3600", "max_time is '3600'"),
        ("sweep --method Baseline", "Baseline has no weights of its own to try"),
    ],
)
def test_wrong_input(typed, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(split(typed)) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_has_a_place_for_every_flag(capsys):
    for command in ("compare", "improve", "sweep"):
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert "\nOptions:\n" not in text
        assert "\nExamples:\n" in text
