"""What the README and the docs show is run: commands as they stand, but for less training, and Python as it is."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from classmates import cli
from classmates.catalog import list as catalog
from classmates.cli.commands import COMMANDS
from classmates.cli.words import read
from classmates.configuration.arguments import arguments_of
from classmates.data.readers.images import decode
from classmates.training.recipes import (
    BATCHES,
    BY_NAME,
    MANY,
    RECOMMENDED,
    SMALL,
    STEPS,
    Situation,
    default_model,
    recipe_for,
)
from classmates.training.settling import EARLIER

pytestmark = pytest.mark.long

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


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search((ROOT / page).read_text(encoding="utf-8"))])
def test_what_a_page_shows_works(page, working_folder):
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    namespace = {}
    for language, file, block in blocks:
        run(block, language, file, namespace)
    if page == "README.md":
        assert len(blocks) == 6
        assert (working_folder / "predictions.csv").exists()


KINDS = {
    "colour.png": Image.effect_noise((9, 7), 90).convert("RGB"),
    "grey.png": Image.effect_noise((9, 7), 90),
    "sixteen.png": Image.fromarray(np.arange(0, 65536, 1041, dtype=np.uint16).reshape(7, 9)),
    "sixteen.tif": Image.fromarray(np.arange(0, 65536, 1041, dtype=np.uint16).reshape(7, 9)),
    "see_through.png": Image.merge("RGBA", [Image.effect_noise((9, 7), 90) for _ in range(4)]),
    "palette.gif": Image.effect_noise((9, 7), 90).convert("P"),
    "turned.jpg": Image.effect_noise((9, 7), 90),
}


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("name", KINDS)
def test_a_page_shows_how_to_read_an_image_as_training_does(tmp_path, name, mode, channels):
    page = (ROOT / "docs" / "using_a_student.md").read_text(encoding="utf-8")
    shown = {"numpy": np, "Image": Image, "ImageOps": ImageOps}
    exec(re.search(r"def pixels.*?return.*?\n", page, re.DOTALL)[0], shown)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    KINDS[name].save(tmp_path / name, **({"exif": exif} if name == "turned.jpg" else {}))
    read = np.atleast_3d(np.asarray(decode(tmp_path / name, channels)))
    assert np.array_equal(shown["pixels"](tmp_path / name, mode)[0], read)


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


def test_every_command_that_is_shown_can_be_typed():
    arguments = {name: arguments_of(command.outline()) for name, command in COMMANDS.items()}
    wrong = {}
    for page in (*PAGES, *RECIPES):
        for line, inline in SHOWN.findall((ROOT / page).read_text(encoding="utf-8")):
            typed = re.sub(r"\\\n#?", " ", line or inline)
            try:
                name, *words = shlex.split(re.split(r" [>|] ", typed)[0], comments=True) or [""]
                if name not in COMMANDS:  # a sentence that begins so
                    continue
                words = [word for word in words if word not in ("--help", "--quiet", "--verbose", "...")]
                if inline and words and words[-1].startswith("--"):
                    words.append("VALUE")  # only the flag is spoken of
                read(words, arguments[name], COMMANDS[name].positions)
            except Exception as error:
                wrong[f"{page}: classmates {typed}"] = repr(error)
    assert wrong == {}


SITUATIONS = [
    (119, 128, True),
    (559, 128, True),
    (2761, 224, True),
    (50_000, 224, True),
    (200_000, 224, True),
    (1000, 64, True),
    (100, 8, False),
    (2500, 32, False),
    (45_000, 32, False),
    (200_000, 64, False),
    (559, 128, False),
    (2761, 128, False),
    (1_281_167, 224, False),
]
"""Examples of the defaults' page: training images, pixels, whether training begins from weights."""


def table(head, lines):
    """A table in Markdown, of texts."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def written(arguments):
    """Arguments of an optimiser or a schedule, in brackets."""
    return f" ({', '.join(f'{name} {value}' for name, value in arguments.items())})" if arguments else ""


def test_the_defaults_are_those_of_the_rules():
    """After a change of ``training/recipes.py``: put these tables in the place of the page's, and mend its words."""
    page = (ROOT / "docs" / "defaults.md").read_text(encoding="utf-8")
    examples, settings = [], {}
    for images, pixels, weights in SITUATIONS:
        found = Situation(images, pixels, weights)
        recipe = recipe_for(found)
        chosen = settings[recipe.name] = dict(recipe.settings(found))
        network = default_model(pixels, images)
        numbers = [f"{images:,}", str(pixels), "yes" if weights else "no"]
        examples.append([*numbers, recipe.name, network, str(found.batch_size), str(chosen["epochs"])])
    assert settings.keys() == set(BY_NAME)
    optimisation = [
        [
            name,
            chosen["optimizer"] + written(chosen["optimizer_args"]),
            f"{chosen['lr']:g}",
            chosen["schedule"] + written(chosen["schedule_args"]),
            f"{chosen.get('warmup_epochs', 0):g}",
            f"{chosen['crop_scale']:g}" if "crop_scale" in chosen else "",
        ]
        for name, chosen in ((name, settings[name]) for name in BY_NAME)
    ]
    head = ["images", "pixels", "weights", "recipe", "network", "batch", "epochs"]
    assert table(head, examples) in page
    head = ["recipe", "optimiser", "rate", "schedule", "warm-up, epochs", "crops from"]
    assert table(head, optimisation) in page
    for name, recipe in BY_NAME.items():
        section = " ".join(page.partition(f"\n### {name}\n")[2].partition("\n### ")[0].split())
        evidence = section.partition(" Evidence: ")[2]
        named = re.findall(r"results/[\w/-]+", recipe.evidence) or [recipe.evidence]
        assert all(one in evidence for one in named), name
        assert f"`improve` tries: {', '.join(RECOMMENDED[name])}." in section, name
    assert re.findall(r"^### (\S+)$", page, re.MULTILINE) == list(BY_NAME)
    for known in (*map(str, BATCHES), str(STEPS), f"{MANY:,}", str(SMALL)):
        assert known in page, known
    none = "`{model}`, {epochs} epochs in batches of {batch_size}, {optimizer} at {lr}".format(**EARLIER)
    assert none in page
