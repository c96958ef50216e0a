"""A run's student on the Hugging Face Hub, with its model card; nothing else of the run unless it is asked for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open

from classmates._names import utf8_path
from classmates._own_code import is_file_name
from classmates._yaml import read_yaml
from classmates.errors import UserError
from classmates.reporting.model_card import CARD_FILE, REPOSITORY, WRITTEN, model_card, public
from classmates.runs.exits import EXITS
from classmates.runs.folder import read_record
from classmates.runs.hub import client
from classmates.runs.student import read_card, save_tensors
from classmates.runs.student_files import CARD, WEIGHTS

CONFIG = "config.yaml"


def push(
    run: str | Path,
    repo: str,
    *,
    private: bool = False,
    license: str | None = None,
    report: bool = False,
    checkpoints: bool = False,
    message: str = "Student trained with classmates",
) -> str:
    """Upload the student of a finished run to the Hugging Face Hub, from where hf:OWNER/NAME loads it.

    What is uploaded: the weights, their card (student.json), the settings and the model card (README.md), without
    full paths of this machine. Access is by the token that ``hf auth login`` keeps, or HF_TOKEN.

    Args:
        run: the run's folder.
        repo: OWNER/NAME; it is made if there is none.
        private: make the repository one that others do not see; one that they see already is refused.
        license: of the weights, by the Hub's names, such as mit or cc-by-4.0; none is stated if not given.
        report: upload report.html too, which has pictures of test images in it, and full paths.
        checkpoints: upload checkpoints too, from which training goes on, with the settings and their full paths.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        UserError: no finished run, nothing to upload of what is asked for, a name that cannot be, or a Hub that
            cannot be reached or refuses.
    """
    folder = Path(run)
    for name in (WEIGHTS, CARD, CONFIG, "result.json"):
        if not (folder / name).is_file():
            raise UserError(f"'{folder}' is no finished run ({name} is missing): give the folder of one")
    if read_record(folder / "result.json") is None:
        raise UserError(f"'{folder / 'result.json'}' is damaged: no model card can be made of it")
    with TemporaryDirectory() as made:
        prepare(folder, Path(made), repo, license)
        for wanted, name in ((report, "report.html"), (checkpoints, "checkpoints")):
            if wanted:
                add(folder / name, Path(made) / name)
        return upload(Path(made), repo, private=private, message=message)


def prepare(run: Path, folder: Path, repo: str, license: str | None) -> None:
    """Write into a folder what is uploaded of every run."""
    settings = public(read_yaml(run / CONFIG, f"'{run / CONFIG}'"))
    (folder / CONFIG).write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    card = read_card(run)
    if card.model is not None and is_file_name(card.model):  # whoever loads it needs the file, wherever it is there
        card = replace(card, model=public(card.model))
    with utf8_path(run / WEIGHTS) as readable, safe_open(readable, "pt") as file:
        # With the card as it is now: in the run's folder the header is that of training, without a temperature.
        save_tensors(folder / WEIGHTS, {name: file.get_tensor(name) for name in file.keys()}, card)  # noqa: SIM118
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    if (run / EXITS).is_file():  # with the exits it answers early there too
        shutil.copyfile(run / EXITS, folder / EXITS)
    own = (run / CARD_FILE).read_text(encoding="utf-8") if (run / CARD_FILE).is_file() else WRITTEN
    text = ModelCard(
        (model_card(run) if WRITTEN in own else own).replace(REPOSITORY, repo), ignore_metadata_errors=True
    )
    if license is not None:
        text.data["license"] = license
    (folder / CARD_FILE).write_text(str(text), encoding="utf-8")


def add(source: Path, target: Path) -> None:
    """Copy a file or a folder; UserError where there is none."""
    if not source.exists():
        raise UserError(f"there is no '{source}' to upload: leave it out")
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)


def upload(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload a folder in one commit, into a repository that is made if there is none; return its address."""
    with client(f"'{repo}' cannot be uploaded to") as api:
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise UserError(
                f"'{repo}' is there already and everybody sees it, though private is true: make it private on the "
                "Hub, name another one, or leave out --private"
            )
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message).commit_url)
