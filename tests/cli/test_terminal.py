"""Every command in a terminal of 80 columns, and in a pipe."""

from shlex import split

# Its log handler keeps the standard error of the moment: not that of a test, which is closed at the end of it.
import lightning.pytorch  # noqa: F401
import numpy as np
import pytest
from PIL import Image

from classmates.cli import main
from tests.fixtures.terminal import terminal

COLUMNS = 80
SMALL = "--train_size 60 --batch_size 20 --accelerator cpu --loggers [] --report false"
RUNS = "--seeds 1 --workers 0 --train.epochs 1 --train.train_size 60 --train.batch_size 20 --train.accelerator cpu"

COMMANDS = {
    "train": f"train --epochs 2 {SMALL} --method MCL --out mcl",
    "train, in vain": "train --method MCL --method.pers 3",
    "train, with a wrong split": "train --data photos --val_fraction 0.01",
    "compare": f"compare --methods Baseline,MCL(peers=2) --model resnet8 {RUNS} --out compared --dry_run",
    "improve": f"improve --data digits --methods MCL {RUNS} --out improved --dry_run",
    "sweep": f"sweep --method MCL --space.method.beta [0.1] {RUNS} --out swept",
    "evaluate": "evaluate run --accelerator cpu",
    "predict": "predict run photos --top 3 --accelerator cpu",
    "describe": "describe resnet20",
    "data": "data photos --val_fraction 0 --out looked_at",
    "list": "list",
    "overview": "--help",
}
"""Help of each command: ``test_help.py``."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, and with photos that have long names."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(split(f"train --quiet --epochs 1 {SMALL} --out run")) in (0, 3)
    generator = np.random.default_rng(0)
    for number in range(8):
        for part in ("train", "test"):
            file = folder / "photos" / part / f"class {number % 2}" / f"a_rather_long_name_of_a_photo_{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(file)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_longer_than_the_terminal_is_wide(command, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("COLUMNS", raising=False)
    with terminal(COLUMNS) as lines:
        main(split(COMMANDS[command]))
    assert any(lines)
    assert [line for line in lines if len(line) > COLUMNS and len(line.split()) > 1] == []


@pytest.mark.parametrize("flag", ["", "--quiet", "--verbose"])
def test_in_a_pipe_there_are_results_alone_and_beside_them_whole_lines(flag, place, monkeypatch, capfd, caplog):
    monkeypatch.chdir(place)
    assert main(split(f"train --epochs 1 {SMALL} --method MCL --out piped{flag} {flag}")) in (0, 3)
    out, err = capfd.readouterr()
    assert out.startswith("MCL-resnet8-digits-0: 1 epochs")
    assert "note: " not in out
    assert "\r" not in out + err
    assert "|" not in err
    if flag == "--quiet":
        assert err == ""
    elif not flag:
        assert all(line.startswith("note: ") for line in err.splitlines())
    assert any("lightning" in record.name for record in caplog.records) == (flag == "--verbose")


def test_verbose_also_tells_where_an_error_arose(capsys):
    assert main(split("train --verbose --method MCL --method.peers 1")) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("classmates: error: ")
