"""Every kind of wrong input gets a sentence that names the thing and the fix, before anything is written."""

import os
from shlex import split

import pytest

from classmates.cli import main
from tests.campaign.cases import CASES

EVERY = [
    pytest.param(case, id=f"{kind}-{number}") for kind, cases in CASES.items() for number, case in enumerate(cases)
]


@pytest.mark.parametrize("case", EVERY)
def test_a_wrong_input_is_told_in_a_sentence_and_leaves_nothing_behind(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, content in case.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    before = everything_in(tmp_path)
    assert main(split(case.typed)) == 2
    before_it, said, message = capsys.readouterr().err.partition("classmates: error: ")
    assert said
    assert "Traceback" not in before_it + message
    assert len(message) < 700
    for word in case.words:
        assert word in message
    assert everything_in(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize(
    "command", ["train --data digits --epochs 1 --out {}/out", "compare --methods Baseline --out {}"]
)
def test_a_folder_that_cannot_be_written_to_is_named(command, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert main(split(command.format(tmp_path / "locked"))) == 2
    assert "locked" in capsys.readouterr().err


def everything_in(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))
