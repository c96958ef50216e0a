"""What the README and the docs show is run: commands as they stand, but for less training, and Python as it is."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classmates import cli
from classmates.catalog import list as catalog
from classmates.cli.commands import COMMANDS
from classmates.cli.words import read
from classmates.configuration.arguments import arguments_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(python|bash)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ["--epochs", "1", "--accelerator", "cpu", "--report", "false", "--loggers", "[]"]
LESS = {
    "train": [*QUICK, "--batch_size", "12", "--train_size", "36"],
    "few_shot": [*QUICK, "--task.episodes", "5", "--task.eval_episodes", "20"],
    "compare": ["--train.train_size", "60", "--train.accelerator", "cpu", "--workers", "0"],
    "improve": ["--train.epochs", "1", "--train.accelerator", "cpu", "--seeds", "1", "--workers", "0"],
}
FINE = {"train": (0, 3)}
"""Exit codes: one epoch may well leave a student at chance, which is told."""


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """Somewhere empty, but for a few photographs (noise in three tints) as the README supposes them."""
    random = np.random.default_rng(0)
    for tint, name in enumerate(("cat", "dog", "owl")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 160, (40, 40, 3), dtype=np.uint8)
            pixels[..., tint] += 90
            Image.fromarray(pixels).save(folder / f"{number}.png")
    shutil.copytree(tmp_path / "photos", tmp_path / "other_photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block, language, file, namespace):
    if file:
        Path(file).write_text(block)
    elif language == "python":
        exec(
            compile(block.replace("image_size=32", "image_size=32, epochs=1, report=False"), "<docs>", "exec"),
            namespace,
        )
    else:
        for line in re.sub(r"(train\.epochs|--seeds) \d+", r"\1 1", block).strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "classmates", line
            less = LESS.get("few_shot" if "few_shot" in arguments else arguments[0], [])
            assert cli.main([*arguments, *less]) in FINE.get(arguments[0], (0,)), line


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(page, working_folder):
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    namespace = {}
    for language, file, block in blocks:
        run(block, language, file, namespace)
    if page == "README.md":
        assert len(blocks) == 6
        assert (working_folder / "predictions.csv").exists()


def test_the_methods_are_listed_as_the_command_lists_them(monkeypatch):
    """After a change of a method's facts: put what `classmates list methods` prints in the place of that block."""
    monkeypatch.setenv("COLUMNS", "80")
    assert f"```text\n{catalog('methods')}\n```" in (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


SHOWN = re.compile(r"^(?:#? +|\$ )?classmates ((?:.*\\\n)*.*)$|`classmates ([^`]*)`", re.MULTILINE)
"""A command on a line of its own, which backslashes carry on, in code or in a recipe's head; or one in a sentence."""
RECIPES = [str(file.relative_to(ROOT)) for file in sorted((ROOT / "recipes").rglob("*.yaml"))]


@pytest.mark.parametrize("page", [*PAGES, *RECIPES])
def test_every_command_that_is_shown_can_be_typed(page):
    for line, inline in SHOWN.findall((ROOT / page).read_text(encoding="utf-8")):
        typed = re.sub(r"\\\n#?", " ", line or inline)
        name, *words = shlex.split(re.split(r" [>|] ", typed)[0], comments=True) or [""]
        if name not in COMMANDS:  # a sentence that begins so
            continue
        arguments = arguments_of(COMMANDS[name].outline())
        words = [word for word in words if word not in ("--help", "--quiet", "--verbose", "...")]
        if inline and words and words[-1].startswith("--"):
            words.append("VALUE")  # only the flag is spoken of
        read(words, arguments, COMMANDS[name].positions)
