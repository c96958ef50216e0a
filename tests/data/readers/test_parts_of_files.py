"""The cache keeps the images of parts apart that lie in the same files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data.loading import load, load_part
from classmates.data.readers.class_parts import Joined
from classmates.data.readers.downloads import Pixels
from classmates.data.readers.few_shot import Turned
from classmates.data.readers.paths import Paths
from tests.data.readers.conftest import pack
from tests.fixtures.class_folders import write

SHADES = {"train": 10, "val": 110, "test": 210}
"""The red of the images of each part, which are equally many."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path / "cache"))


def png(shade, side):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 0, 255)).save(file, "PNG")
    return file.getvalue()


def class_folders(folder, side):
    for part, shade in SHADES.items():
        for number in range(4):
            write(folder / part / "ab"[number % 2] / f"{number}.png", (side, side), shade + number)
    return folder


def table(folder, side):
    rows = ["file,label,split"]
    for part, shade in SHADES.items():
        for number in range(4):
            write(folder / f"{part}{number}.png", (side, side), shade + number)
            rows.append(f"{part}{number}.png,{'ab'[number % 2]},{part}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


def tars(folder, side):
    for part, shade in SHADES.items():
        files = [(f"{number}.png", png(shade + number, side)) for number in range(4)]
        pack(folder / f"{part}-0.tar", [each for n, file in enumerate(files) for each in (file, (f"{n}.cls", n % 2))])
    return folder


def parquet(folder, side):
    datasets = pytest.importorskip("datasets")
    folder.mkdir()
    for part, shade in SHADES.items():
        cells = [{"bytes": png(shade + number, side), "path": None} for number in range(4)]
        features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
        rows = {"image": cells, "label": [0, 1, 0, 1]}
        datasets.Dataset.from_dict(rows, features).to_parquet(folder / f"{part}.parquet")
    return folder


@pytest.mark.parametrize("write_data", [class_folders, table, tars, parquet])
@pytest.mark.parametrize("side", [8, 72], ids=["small", "large"])
def test_a_part_that_is_read_alone_has_its_own_images(tmp_path, write_data, side):
    data = write_data(tmp_path / "photos", side)
    for part in (*SHADES, *SHADES):  # once read, once from the cache
        found = load_part(data, part)
        reds = (255 * found.moments["test"][:, 0, 0]).round().int().tolist()
        assert sorted(reds) == [SHADES[part] + number for number in range(4)]
        if side == 8:
            assert found.test.images[:, 0, 0, 0].tolist() == reds


def test_which_split_is_the_test_set_may_hang_on_the_labels(tmp_path):
    datasets = pytest.importorskip("datasets")
    given = {
        "train": ([0, 1, 0, 1], [0, 1, 0, 1]),
        "val": ([0, 1, 0, 1], [0, 1, 0, 1]),
        "test": ([-1] * 4, [1, 0, 1, 0]),
    }
    (tmp_path / "photos").mkdir()
    for part, (kind, colour) in given.items():
        cells = [{"bytes": png(SHADES[part] + number, 8), "path": None} for number in range(4)]
        features = {"image": datasets.Image(), "kind": datasets.Value("int64"), "colour": datasets.Value("int64")}
        rows = {"image": cells, "kind": kind, "colour": colour}
        datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(
            tmp_path / "photos" / f"{part}.parquet"
        )
    for label, part in {"kind": "val", "colour": "test"}.items():
        data = load(tmp_path / "photos", label=label, val_fraction=0)
        assert data.test.images[:, 0, 0, 0].tolist() == [SHADES[part] + number for number in range(4)]


def test_files_know_which_they_are_and_in_what_order(tmp_path):
    images = np.arange(96, dtype=np.uint8).reshape(6, 4, 4)
    kinds = {
        "paths": Paths(tmp_path, [["a", "b", "c", "d", "e", "f"]]),
        "pixels": Pixels(images),
        "joined": Joined([Pixels(images[:2]), Pixels(images[2:])]),
        "turned": Turned(Pixels(images), torch.arange(6)),
    }
    for kind, files in kinds.items():
        taken = [files.take(torch.tensor(at)) for at in ([0, 1, 2], [0, 2, 1], [3, 4, 5], [0, 1])]
        assert len({tuple(each.identity()) for each in (files, *taken)}) == 5, kind
        again = files.take(torch.tensor([5, 4, 3, 2, 1, 0])).take(torch.tensor([5, 4, 3]))
        assert [*again.identity()] == [*taken[0].identity()], kind
