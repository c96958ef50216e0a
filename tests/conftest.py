"""A network and data small enough for any test."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

# As many test processes run as there are cores (pytest-xdist): more threads would be in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec

settings.register_profile("any machine", deadline=None)  # a machine that is busy makes no test fail
settings.load_profile("any machine")

pytest_plugins = [
    "tests.fixtures.few_shot_run",
    "tests.fixtures.finished_comparison",
    "tests.fixtures.finished_run",
    "tests.fixtures.hub",
    "tests.fixtures.layout",
    "tests.fixtures.sd_run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first: processes take whole files, in this order (``--dist loadfile``)."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say with which versions the tests ran: docs/installing.md lists those that were seen."""
    names = ("torch", "timm", "lightning", "torchmetrics", "jsonargparse", "numpy", "pandas", "onnxruntime")
    found = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
    terminalreporter.write_line(", ".join(found))


class TinyNetwork(nn.Module):
    """Three stages (convolution, BatchNorm, ReLU; each halves the map), mean over space, a linear classifier."""

    def __init__(self, num_classes: int, widths: Sequence[int], in_chans: int):
        super().__init__()
        inputs = [in_chans, *widths]
        for number, (before, after) in enumerate(zip(inputs, widths, strict=False), start=1):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            self.add_module(f"stage{number}", nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU()))
        self.depth = len(widths)
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for number in range(1, self.depth + 1):
            maps = self.get_submodule(f"stage{number}")(maps)
        return self.fc(maps.mean((2, 3)))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is read from or written to the cache of whoever runs the tests."""
    os.environ["CLASSMATES_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tiny_network() -> Callable[..., nn.Module]:
    """Makes a plain network of stages ``stage1``, ``stage2``, ... and a classifier ``fc``; always the same one."""

    def make(num_classes: int = 4, widths: Sequence[int] = (4, 6, 10), in_chans: int = 3, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TinyNetwork(num_classes, widths, in_chans)

    return make


@pytest.fixture
def tiny_data() -> DataSpec:
    """36 samples of 4 classes, 9 of each in turn, and images of 3x16x16."""
    return DataSpec(num_classes=4, labels=torch.arange(36) % 4, input_shape=(3, 16, 16))


@pytest.fixture
def tiny_batch(tiny_data: DataSpec) -> Batch:
    """Nine samples of the tiny data, which are also three triplets."""
    indices = torch.tensor([0, 4, 1, 5, 9, 2, 3, 7, 12])
    images = torch.randn(9, *tiny_data.input_shape, generator=torch.Generator().manual_seed(0))
    return Batch(images, tiny_data.labels[indices], indices)


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Opens a page in a headless Chromium, with more flags such as --dump-dom; what it printed comes back."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to open the report with: none of chromium, chromium-browser, google-chrome is there")

    def run(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
        quiet = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
        )
        profile = tmp_path_factory.mktemp("profile")
        return subprocess.run(
            [browser, *quiet.split(), f"--user-data-dir={profile}", "--window-size=1200,4000", *flags, page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )

    return run
