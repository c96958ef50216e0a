"""Flags and words that people bring from other programs, and what they are told."""

from shlex import split

import pytest

from classmates.cli import main
from classmates.configuration.arguments import ELSEWHERE, arguments_of, flat, from_elsewhere
from classmates.training.train import train

MEANT = {
    "train --learning_rate 0.1": "--lr",
    "train --learning-rate=0.1": "--lr",
    "train --gpus 2": "--devices",
    "train --amp": "--precision bf16-mixed",
    "train --fp16 true": "--precision 16-mixed",
    "train --arch resnet18": "--model",
    "train --wandb": "--loggers wandb",
    "train --early_stopping 5": "--patience",
    "train --label_smoothing 0.1": "--method LabelSmoothing",
    "train --workers 4": "--num_workers",
    "train --weight_decay 1e-4": "--optimizer_args.weight_decay",
    "train --config old.yaml": "--lr",
    "compare --learning_rate 0.1": "--train.lr",
    "compare --weight_decay 1e-4": "--train.optimizer_args.weight_decay",
    "compare --arch resnet18": "--models",
    "compare --label_smoothing 0.1": "--methods LabelSmoothing",
    "sweep --arch resnet18": "--model",
    "improve ./photos": "--data ./photos",
    "train photos": "--data photos",
    "train 'my photos'": "--data 'my photos'",
    "compare cifar100 --methods MCL": "--data cifar100",
    "train hf:mnist": "--data hf:mnist",
    "evaluate run ./photos": "--data ./photos",
    "train recipes/mcl.yaml": "--config recipes/mcl.yaml",
}
ONE_TOO_MANY = ["train MCL", "train --data ./photos ./more", "train ./more --data ./photos", "push run repo ./photos"]


@pytest.mark.parametrize("typed", MEANT)
def test_what_is_meant_is_told(typed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "my photos"):
        (tmp_path / folder).mkdir()
    (tmp_path / "old.yaml").write_text("learning_rate: 0.1")
    assert main(split(typed)) == 2
    assert capsys.readouterr().err.endswith(f": did you mean {MEANT[typed]}?\n")


@pytest.mark.parametrize("typed", ONE_TOO_MANY)
def test_a_word_that_can_be_no_data_is_one_too_many(typed, capsys):
    assert main(split(typed)) == 2
    assert "is one word too many: every value follows its flag" in capsys.readouterr().err


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_a_setting_is_called_here_is_what_train_takes(name):
    known = flat(arguments_of(train))
    assert name not in known
    assert from_elsewhere(name, known) == f"--{ELSEWHERE[name]}"


def test_a_command_without_such_a_setting_tells_of_no_other(capsys):
    assert main(split("predict run photo.png --early_stopping 3")) == 2
    assert "did you mean --" not in capsys.readouterr().err
