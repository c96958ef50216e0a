"""Classes in files of the user's own: found by their path, and nothing else is run."""

import subprocess
import sys

import pytest
import torch

from classmates._files import recipes_folder
from classmates._own_code import code_hash, file_name_of, file_of, is_file_name, load_class, load_named
from classmates.errors import UserError
from classmates.methods import Baseline


def test_file_names_are_told_from_timm_names() -> None:
    assert [is_file_name(name) for name in ("net.py:Net", "a/b.py", "resnet18.a1_in1k", "resnet32")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["a/net.py:Net", "a/net.py:", "a/net.py"])
def test_the_file_of_a_name_is_known_with_and_without_a_class(name: str) -> None:
    assert str(file_of(name)) == "a/net.py"


def test_a_file_that_the_packages_recipes_name_is_found_from_any_folder(tmp_path, monkeypatch):
    name = "recipes/comparisons/small_vit.py"
    monkeypatch.chdir(tmp_path)
    assert file_of(f"{name}:vit") == recipes_folder().parent / name
    assert callable(load_class("model", f"{name}:vit"))
    assert str(file_of("recipes/other.py:vit")) == "recipes/other.py"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert str(file_of(f"{name}:vit")) == name


def test_a_file_that_seeds_leaves_the_programs_random_numbers(tmp_path):
    (tmp_path / "own.py").write_text("import torch\ntorch.manual_seed(42)\nclass Own: pass")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load_class("model", f"{tmp_path}/own.py:Own")
    assert torch.equal(before, torch.get_rng_state())


OWN = """
with open("ran", "a") as file:
    file.write("x")

class Own:
    pass
"""


def test_a_file_is_run_once_and_its_class_known_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    before = list(sys.path)
    found = load_class("method", "own.py:Own")
    assert load_class("method", str(tmp_path / "own.py:Own")) is found
    assert (tmp_path / "ran").read_text() == "x"
    assert file_name_of(found) == "own.py:Own"
    assert file_name_of(Baseline) is None
    assert sys.path == before
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert file_name_of(found) == str(tmp_path / "own.py:Own")


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('no')",
        "1 +",
        "import sys; sys.exit()",
        "import argparse as a; a.ArgumentParser().parse_args(['--x'])",
    ],
)
@pytest.mark.parametrize("way", ["failing.py:Own", "~/failing.py:Own", "failing_module.Own"])
def test_whatever_a_file_does_when_it_is_run_is_told(code, way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("failing.py", "failing_module.py"):
        (tmp_path / name).write_text(code)
    with pytest.raises(UserError, match=r"could not be run: (RuntimeError|SyntaxError|SystemExit)"):
        load_named("method", way)


def test_a_changed_file_is_run_again_and_has_another_hash(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("class Own: number = 1")
    first, before = load_class("model", f"{path}:Own"), code_hash(f"{path}:Own")
    path.write_text("class Own: number = 22")
    assert load_class("model", f"{path}:Own").number == 22
    assert first.number == 1
    assert code_hash(f"{path}:Own") != before


def test_a_library_is_never_a_file_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("json.py", "mine.py"):
        (tmp_path / name).write_text("class JSONDecoder: pass")
    assert load_named("method", "json.JSONDecoder").__module__ == "json.decoder"
    assert file_name_of(load_named("method", "mine.JSONDecoder")) == "mine.py:JSONDecoder"
    with pytest.raises(UserError, match=r"method 'json.Nothing' cannot be imported.*FILE.py:CLASS"):
        load_named("method", "json.Nothing")


def test_a_command_runs_no_file_of_the_folder_it_is_started_in(tmp_path):
    for name in ("zstandard", "lz4", "tensorflow", "s3fs", "torch", "timm", "pandas", "yaml", "orjson", "ujson"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.ran', 'w')")
    ended = subprocess.run([sys.executable, "-m", "classmates", "list", "models"], cwd=tmp_path, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.glob("*.ran")) == []
