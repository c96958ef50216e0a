"""Flags in what is said by commands that train several runs: as these take them."""

import pytest

from classmates._progress import note
from classmates.cli import main
from classmates.cli.run_flags import flags_of_runs
from classmates.errors import UserError

OWN, OF_TRAIN = ("data", "model", "out", "train.NAME"), ("data", "model", "method", "epochs", "augmentation.flip")
SAID = "give --epochs 3, --augmentation.flip false, --model X, --method.peers 2 or --seeds 3; `train --epochs 3`"


def test_those_of_train_are_spelled_as_the_command_takes_them(capsys):
    spelled = SAID.replace("give --epochs", "give --train.epochs").replace(" --augmentation", " --train.augmentation")
    with flags_of_runs(OWN, OF_TRAIN):
        note(SAID)
    assert capsys.readouterr().err == f"note: {spelled}\n"
    note(SAID)
    assert capsys.readouterr().err == f"note: {SAID}\n"
    with pytest.raises(UserError) as told, flags_of_runs(OWN, OF_TRAIN):
        raise UserError(SAID)
    assert str(told.value) == spelled


def test_a_command_that_takes_them_itself_says_them_as_they_are():
    with pytest.raises(UserError) as told, flags_of_runs(OF_TRAIN, OF_TRAIN):
        raise UserError(SAID)
    assert str(told.value) == SAID


@pytest.mark.parametrize(
    "command", ["improve", "compare --methods Baseline,DML --models resnet8 --seeds 1", "sweep --method MCL"]
)
def test_what_a_message_advises_can_be_typed(command, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(b"no image")
    words = [*command.split(), "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--train.on_bad_image skip" in capsys.readouterr().err
