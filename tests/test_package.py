"""What is published: the sdist, the wheel made of it, and that wheel installed where nothing else of this is."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    dist = tmp_path_factory.mktemp("dist")
    command = [find_uv_bin(), "build", "--offline", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", dist, ROOT], check=True, capture_output=True)
    assert len([*dist.glob("classmates-*.tar.gz")]) == 1
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment of its own with the wheel in it, which finds the libraries where this one has them."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    scheme = {"base": str(place), "platbase": str(place)}
    own = Path(sysconfig.get_path("purelib", "venv", scheme))
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    command = [find_uv_bin(), "pip", "install", "--offline", "--no-deps", "--python", place, wheel]
    subprocess.run(command, check=True, capture_output=True)
    return place / "bin" / "classmates"


def test_what_an_index_shows_leads_nowhere_that_is_not_there(wheel):
    with ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = files.read(name).decode()
    assert "\nAuthor: classmates developers\n" in metadata
    assert "\n# classmates\n" in metadata
    assert [target for target in re.findall(r"\]\(([^)]+)\)", metadata) if "://" not in target] == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("list models", "resnet32"),
        ("train --config demo --train_size 60 --epochs 1 --accelerator cpu --report false --out run", "student"),
    ],
)
def test_an_installed_wheel_works_in_any_folder(installed, tmp_path, typed, said):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([installed, *typed.split()], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    assert said in done.stdout


def test_the_image_and_ci_call_what_there_is():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for file in ("Dockerfile", ".ci/run"):
        called = re.findall(r'^(?!#).*?\bmake(?:", "| )(\w+)', (ROOT / file).read_text(), re.MULTILINE)
        assert called
        assert set(called) <= targets, file


def test_the_lock_file_is_of_these_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    declared = {(canonicalize_name(wanted.name), str(wanted.specifier)) for wanted in map(Requirement, texts)}
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (own,) = (package for package in packages if package["name"] == project["name"])
    assert {(wanted["name"], wanted.get("specifier", "")) for wanted in own["metadata"]["requires-dist"]} == declared
