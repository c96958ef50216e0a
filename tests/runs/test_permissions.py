"""Whatever is written can be read by whom the umask lets."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import classmates
from classmates.data import load
from tests.fixtures.sd_run import UMASK


def wrong_modes(folder: Path) -> dict[str, str]:
    """The files and folders whose permissions are other than the umask says."""
    found = {}
    for path in folder.rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~UMASK
        if (mode := stat.S_IMODE(path.stat().st_mode)) != expected:
            found[str(path.relative_to(folder))] = oct(mode)
    return found


@pytest.fixture
def umask():
    before = os.umask(UMASK)
    yield
    os.umask(before)


def test_all_that_training_leaves(sd_run):
    assert {"student.safetensors", "exits.safetensors", "report.html", "metrics.csv"} <= set(os.listdir(sd_run))
    assert (sd_run / "checkpoints" / "last.ckpt").exists()
    assert not wrong_modes(sd_run)


def test_all_that_is_made_of_a_run(sd_run, tmp_path, umask):
    folder = tmp_path / "made"
    folder.mkdir()
    for format in ("onnx", "torch", "safetensors"):
        classmates.export(sd_run, format=format, out=folder / f"net.{format}".replace("torch", "pt2"))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    classmates.predict(sd_run, [str(folder / "a.png")], out=folder / "a.csv", explain=folder / "why")
    classmates.evaluate(sd_run, out=folder / "scores.json", accelerator="cpu")
    assert {"net.onnx", "a.csv", "why", "scores.json"} <= set(os.listdir(folder))
    assert not wrong_modes(folder)


def test_the_cache_of_a_folder_of_photos(tmp_path, umask, monkeypatch):
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    load(tmp_path / "photos", image_size=8, val_fraction=0)
    assert any(path.is_file() for path in (tmp_path / "cache").rglob("*"))
    assert not wrong_modes(tmp_path / "cache")
