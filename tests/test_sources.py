"""Which code a run depends on: edits of a copied package, and whose hash they change."""

import shutil
from pathlib import Path

import pytest

import classmates
from classmates._sources import Package, Source
from classmates.experiments.identity import code_hash, code_version, this_package

ORIGINAL = Path(classmates.__file__).parent


def settings(method="Baseline", model="resnet8", data="digits", **options):
    return {"method": {"class_path": f"classmates.{method}", "init_args": options}, "model": model, "data": data}


RUNS = {
    "Baseline": settings(),
    "MCL": settings("MCL"),
    "SD": settings("SD"),
    "KD": settings("KD", teacher="vgg16_bn_cifar"),
    "both": settings("Combined", methods=["CORSD", {"class_path": "classmates.MCL", "init_args": {"peers": 2}}]),
    "vgg": settings(model="vgg16_bn_cifar"),
    "timm": settings(model="mobilenetv3_small_100", data="cub200"),
    "folder": settings(data="./photos"),
    "hub": settings(data="hf:somebody/something"),
}
ALL = set(RUNS)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "classmates"
    shutil.copytree(ORIGINAL, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def package(copied):
    return Package(copied)


@pytest.fixture(scope="module")
def before(package):
    return hashes(package)


@pytest.fixture
def stale(copied, package, before):
    """Adds text to a file of the copy and says whose hash has changed; the file is put back at the end."""
    changed = {}

    def edit(name, text="\nchanged = 1\n", replaced=None):
        path = copied / name
        changed[path] = path.read_bytes() if path.exists() else None
        old = path.read_text() if path.exists() else ""
        path.write_text(old.replace(replaced, text) if replaced else old + text)
        edited = Package(copied)  # the other files have been read before
        edited.sources |= {name: one for name, one in package.sources.items() if one and one.path not in changed}
        after = hashes(edited)
        return {run for run in RUNS if after[run] != before[run]}

    yield edit
    for path, content in changed.items():
        path.unlink() if content is None else path.write_bytes(content)


def hashes(package):
    return {run: code_hash(given, package) for run, given in RUNS.items()}


def test_the_copy_has_the_hashes_of_the_original(before):
    assert before == {run: code_version(given) for run, given in RUNS.items()}
    assert len({*before.values()}) == len(RUNS)


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        ("methods/mcl.py", {"MCL", "both"}),
        ("losses/contrast.py", {"MCL", "both"}),
        ("methods/sd.py", {"SD"}),
        ("methods/deep_supervision.py", {"SD"}),  # which SD builds on
        ("losses/corsd.py", {"SD", "both"}),
        ("methods/teacher_method.py", {"KD"}),
        ("methods/combined.py", {"both"}),
        ("methods/__init__.py", set()),
        ("methods/base.py", ALL),
        ("models/vgg.py", {"vgg", "KD"}),
        ("models/hcgnet.py", set()),
        ("models/resnet.py", ALL - {"vgg", "timm"}),
        ("data/readers/cub.py", {"timm"}),
        ("data/readers/downloads.py", ALL - {"folder", "hub"}),
        ("data/readers/folder.py", {"folder", "timm"}),
        ("data/readers/hub.py", ALL),  # parquet files in the Hub's layout take the place of any set's own
        ("data/readers/by_name.py", set()),
        ("data/augmentation.py", ALL),
        ("training/optimisation.py", ALL),
        ("training/module.py", ALL),
        ("evaluation/collect.py", ALL),
        ("networks/peers/peers.py", ALL),
        *(
            (f"{room}/__init__.py", set())
            for room in ("cli", "experiments", "comparisons", "inspection", "reporting")
        ),
        ("reporting/run_page.py", set()),
        ("experiments/identity.py", set()),
        ("configuration/settings.py", set()),
        ("comparisons/tables.py", set()),
        ("cli/help.py", set()),
        ("catalog.py", set()),
        ("__init__.py", set()),
        ("deployment/export.py", set()),
    ],
)
def test_an_edit_changes_the_hash_of_the_runs_that_depend_on_the_file(file, whose, stale):
    assert stale(file) == whose


def test_a_new_method_changes_no_run(stale):
    assert stale("methods/dkd.py", "class DKD: ...") == set()
    assert stale("methods/__init__.py", "from classmates.methods.dkd import DKD") == set()


def test_docstrings_comments_and_layout_do_not_count(stale):
    file = "losses/peers.py"
    first, *_ = (ORIGINAL / file).read_text().partition("\n")
    assert stale(file, '"""Another docstring."""\n\n# with a comment', replaced=first) == set()
    assert stale(file, "\n\n\n# at the end\n") == set()
    assert stale(file, "\nreturned = 1\n") == ALL


def test_what_is_imported_for_types_alone_does_not_count(tmp_path):
    folder = tmp_path / "house"
    folder.mkdir()
    (folder / "__init__.py").write_text("from house.one import thing\n")
    (folder / "one.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.two\nthing = 1"
    )
    (folder / "two.py").write_text("")
    (folder / "three.py").write_text("def late():\n    from . import thing\n    from .two import nothing")
    package = Package(folder)
    assert package.closure(["house.one"], lambda *names: True) == {"house.one"}
    assert package.closure(["house.three"], lambda *names: True) == {"house.three", "house.one", "house.two"}


def test_the_file_of_the_users_own_method_counts_and_what_it_imports(tmp_path, monkeypatch):
    file = tmp_path / "own_hashed.py"
    file.write_text("from classmates import MCL\n\n\nclass Own(MCL):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    given = settings() | {"method": {"class_path": "own_hashed.Own", "init_args": {}}}
    first = code_hash(given, this_package())
    file.write_text(file.read_text() + "\n    twice = 2\n")
    assert code_hash(given, this_package()) != first
    assert "classmates.methods.mcl" in {*this_package().modules_of(Source(file))}
