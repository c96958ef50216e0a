"""Every command on a real, small run."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from shlex import split

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

import classmates
from classmates.cli import main
from classmates.deployment.formats import FORMATS

QUICK = split(
    "--epochs 3 --train-size 100 --batch-size 10 --accelerator cpu --loggers [] --report false --progress false"
)
TINY_MCL = split("--method MCL --method.peers 2 --method.num-negatives 16")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch, started from the command line."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *QUICK, *TINY_MCL, "--out", str(folder)]) == 0
    return folder


def test_a_runs_config_is_accepted_as_it_is_and_trains_the_same_student(run, tmp_path, capsys):
    config = yaml.safe_load((run / "config.yaml").read_text())
    again = tmp_path / "again"
    assert main(["train", "--config", str(run / "config.yaml"), "--out", str(again)]) == 0
    assert yaml.safe_load((again / "config.yaml").read_text()) == {**config, "out": str(again)}
    first, second = (load_file(folder / "student.safetensors") for folder in (run, again))
    assert all(first[name].equal(second[name]) for name in first)
    out = capsys.readouterr().out
    assert "student" in out
    assert str(again / "student.safetensors") in out
    assert main(["train", "--config", str(again / "config.yaml")]) == 2  # the folder holds that run
    assert "--resume true" in capsys.readouterr().err


def test_evaluate_prints_the_scores_of_the_run(run, tmp_path, capsys):
    scores = json.loads((run / "result.json").read_text())["test"]["student"]
    assert main(["evaluate", str(run), "--out", str(tmp_path / "scores.json"), "--accelerator=cpu"]) == 0
    assert f"{scores['top1']['value']:.2%}" in capsys.readouterr().out
    assert json.loads((tmp_path / "scores.json").read_text()) == scores


def test_predict_prints_a_row_for_each_image_wherever_the_flags_are(run, tmp_path, capsys):
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path in paths:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    assert main(["predict", str(run), paths[0], "--accelerator", "cpu", *paths[1:]]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["file", "class", "probability"]
    assert [row.split()[0] for row in rows[1:]] == paths


@pytest.mark.parametrize("asked", ["", "--show csv"], ids=["a summary", "lines that were asked for"])
def test_what_is_in_a_file_is_not_printed_again(run, asked, tmp_path, capsys):
    for number in range(3):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{number}.png")
    out = tmp_path / "answers.csv"
    assert main(["predict", str(run), str(tmp_path), "--accelerator", "cpu", "--out", str(out), *split(asked)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(out.read_text().splitlines()) == 4
    if asked:
        assert printed == out.read_text().splitlines()
    else:
        [head, of_class, where] = printed
        assert head.startswith("3 images")
        assert of_class.split()[1] == "3"
        assert where == f"Table: {out}"


def test_export_prints_the_file_it_wrote(run, tmp_path, capsys):
    out = tmp_path / "student.safetensors"
    assert main(["export", str(run), "--format", "safetensors", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert load_file(out).keys() == load_file(run / "student.safetensors").keys()


def test_report_gets_the_run_and_prints_the_file(tmp_path, monkeypatch, capsys):
    module = import_module("classmates.experiments.report")
    monkeypatch.setattr(module, "report", functools.wraps(module.report)(lambda run, out: Path(run, "written.html")))
    assert main(["report", "some_run"]) == 0
    assert capsys.readouterr().out == f"{Path('some_run', 'written.html')}\n"


def test_describe_and_list_print_what_python_returns(capsys):
    assert main(split("describe resnet8 --num-classes 10 --in-chans 1 --image-size 8")) == 0
    assert capsys.readouterr().out == f"{classmates.describe('resnet8', num_classes=10, in_chans=1, image_size=8)}\n"
    assert main(split("list models --pattern resnet1*")) == 0
    assert capsys.readouterr().out == f"{classmates.list('models', pattern='resnet1*')}\n"


def test_a_batch_job_gets_its_result_on_standard_output_and_notes_beside_it(tmp_path):
    typed = [*QUICK[:-2], "--out", str(tmp_path / "run"), *TINY_MCL[:-1], "100000"]
    done = subprocess.run([sys.executable, "-m", "classmates", "train", *typed], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("MCL-resnet8-digits-0: 3 epochs")
    assert "student.safetensors" in done.stdout
    notes = done.stderr.splitlines()
    assert any(line.startswith("note: num_negatives=100000 capped") for line in notes)
    assert all(line.startswith(("note: ", "epoch ")) for line in notes)


@pytest.mark.parametrize("show", ["csv", "jsonl"])
def test_lines_for_programs_are_whole_on_a_terminal_too(run, show, tmp_path, monkeypatch, capsys):
    name = "a photo of a rather long name from my holiday in the mountains.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["predict", str(run), str(tmp_path / name), "--show", show, "--accelerator=cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (2 if show == "csv" else 1)
    assert name in lines[-1]
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert max(map(len, script.splitlines())) > 40


@pytest.mark.parametrize(
    ("to", "code", "said"),
    [("| true", 141, ""), ("> /dev/full", 2, "No space left on device: make space"), (">&-", 0, "")],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_takes_nothing_is_told_also_where_python_keeps_lines_back(to, code, said):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = f"{sys.executable} -m classmates list models {to}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, "Exception ignored" in done.stderr) == (code, False), done.stderr
    assert said in " ".join(done.stderr.split())


def test_an_export_of_which_nothing_is_kept_is_no_success(run, tmp_path, monkeypatch):
    needs = {name: replace(form, needs=("nothing_like_it",)) for name, form in FORMATS.items()}
    monkeypatch.setattr("classmates.deployment.measured.FORMATS", needs)
    assert main(["export", str(run), "--formats", "openvino", "--out", str(tmp_path / "out")]) == 4
