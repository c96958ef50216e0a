"""Students on the Hub: what is uploaded, and that it is the same student that comes back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open

import classmates
from classmates.cli import main
from classmates.errors import UserError
from classmates.methods.teachers import find_teacher
from classmates.models import resnet8
from classmates.runs.exits import load_exits
from classmates.runs.prototypes import Prototypes, student_hash
from classmates.runs.record import RunRecord
from classmates.runs.student import StudentCard, load_student, save_student, write_card

CARD = StudentCard("resnet8", tuple("0123456789"), (1, 8, 8), (0.5,), (0.2,), (8, 8), {"in_chans": 1})
ALWAYS = ["README.md", "config.yaml", "student.json", "student.safetensors"]


@pytest.fixture
def run(finished_run, tmp_path):
    """A run whose student can be rebuilt, trained in a place of this machine."""
    folder = shutil.copytree(finished_run, tmp_path / "run")
    torch.manual_seed(0)
    save_student(folder, resnet8(num_classes=10, in_chans=1), CARD)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings |= {"data": str(tmp_path / "somebodys" / "photos"), "batch_size": 20, "val_fraction": 0.1, "seed": 0}
    settings |= dict.fromkeys(("data_dir", "label", "image_size", "train_size"), None) | {"on_bad_image": "error"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    (folder / "report.html").write_text("<img>")
    return folder


def files(hub, repo="somebody/birds"):
    return hub.repos[repo][-1][1]


def test_a_student_is_uploaded_with_its_cards_and_settings_alone_and_comes_back_the_same(run, hub, tmp_path, capsys):
    assert main(["push", str(run), "somebody/birds", "--private", "true", "--license", "mit"]) == 0
    address = capsys.readouterr().out.strip()
    commit = hub.repos["somebody/birds"][-1][0]
    assert address.endswith(f"/somebody/birds/commit/{commit}")
    assert hub.private == {"somebody/birds"}
    assert sorted(files(hub)) == ALWAYS
    assert not [name for name, content in files(hub).items() if str(tmp_path).encode() in content]
    metadata = ModelCard(files(hub)["README.md"].decode()).data
    assert (metadata.license, metadata.pipeline_tag) == ("mit", "image-classification")
    assert "hf:somebody/birds" in files(hub)["README.md"].decode()

    mine, card = load_student(run)
    images = torch.randn(3, 1, 8, 8)
    for name in ("hf:somebody/birds", f"hf:somebody/birds@{commit}"):
        theirs, same = classmates.load_student(name)
        assert same == card
        assert theirs(images).equal(mine(images))
        assert find_teacher(name, None, None, None, True, trust_code=False).normalisation == (card.mean, card.std)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "one.png")
    assert main(["predict", "hf:somebody/birds", str(tmp_path / "one.png"), "--accelerator", "cpu"]) == 0
    assert capsys.readouterr().out == main_output(["predict", str(run), str(tmp_path / "one.png")], capsys)
    there = classmates.evaluate("hf:somebody/birds", "digits", accelerator="cpu")
    assert there == classmates.evaluate(run, "digits", accelerator="cpu")


def main_output(typed, capsys):
    assert main([*typed, "--accelerator", "cpu"]) == 0
    return capsys.readouterr().out


def test_the_weights_carry_the_card_as_it_is_now(run, hub):
    write_card(run, replace(CARD, temperature=1.5))
    classmates.push(run, "somebody/birds")
    (run / "theirs.safetensors").write_bytes(files(hub)["student.safetensors"])
    with safe_open(run / "theirs.safetensors", "pt") as file:
        assert StudentCard.from_json(file.metadata()["classmates"]).temperature == 1.5


def test_a_revision_stays_what_it_was(run, hub):
    classmates.push(run, "somebody/birds")
    first, _ = load_student(run)
    commit = hub.repos["somebody/birds"][-1][0]
    torch.manual_seed(1)
    save_student(run, resnet8(num_classes=10, in_chans=1), CARD)
    classmates.push(run, "somebody/birds")
    images = torch.randn(3, 1, 8, 8)
    pinned, newest = (load_student(f"hf:somebody/birds{at}")[0] for at in (f"@{commit}", ""))
    assert pinned(images).equal(first(images))
    assert not newest(images).equal(first(images))


def test_pictures_and_checkpoints_are_uploaded_only_if_asked_for(run, hub):
    classmates.push(run, "somebody/birds", report=True, checkpoints=True)
    assert sorted(files(hub)) == sorted([*ALWAYS, "checkpoints/last.ckpt", "report.html"])
    (run / "report.html").unlink()
    with pytest.raises(UserError, match=r"there is no '.*report.html' to upload"):
        classmates.push(run, "somebody/birds", report=True)


def test_what_everybody_sees_already_is_not_taken_for_private(run, hub):
    classmates.push(run, "somebody/birds", private=True)
    classmates.push(run, "somebody/birds", private=True)
    classmates.push(run, "somebody/seen")
    with pytest.raises(
        UserError, match=r"'somebody/seen' is there already and everybody sees it, .* leave out --private$"
    ):
        classmates.push(run, "somebody/seen", private=True)
    assert {repo: len(commits) for repo, commits in hub.repos.items()} == {"somebody/birds": 2, "somebody/seen": 1}


def test_a_student_of_the_hub_is_exported_in_every_way(sd_copy, hub, tmp_path, monkeypatch):
    monkeypatch.setattr("classmates.deployment.measuring.MOST_SECONDS", 0.0)
    monkeypatch.setattr("classmates.deployment.export.export_early_exit", lambda run, exits, *rest: (run, exits))
    Prototypes(torch.eye(2, 64), ("new", "other"), (1, 1), "cosine", 1.0, None, student_hash(sd_copy)).save(
        tmp_path / "new.safetensors"
    )
    classmates.push(sd_copy, "somebody/digits")
    name, out = "hf:somebody/digits", tmp_path / "out"
    with_prototypes = {"what": "embedding", "prototypes": tmp_path / "new.safetensors", "out": out / "embedding.onnx"}
    assert classmates.export(name, **with_prototypes).is_file()
    assert classmates.export(name, formats=["torch"], out=out).rows[1].difference == 0
    fetched, exits = classmates.export(name, what="early_exit", out=out)
    images = torch.randn(2, 1, 8, 8)
    assert exits(images).equal(load_exits(sd_copy)[0](images))
    assert (fetched / "config.yaml").is_file()


def test_nothing_but_weights_and_settings_is_fetched(run, hub, tmp_path):
    classmates.push(run, "somebody/birds", report=True, checkpoints=True)
    load_student("hf:somebody/birds")
    fetched = {path.name for path in Path(tmp_path / "hub_cache").rglob("*") if path.is_symlink()}
    assert fetched == {*ALWAYS} - {"README.md"}


def test_a_card_that_its_owner_has_written_is_left_as_it_is(run, hub):
    (run / "README.md").write_text("# My birds\n\nclassmates predict hf:OWNER/NAME photos\n")
    classmates.push(run, "somebody/birds", license="mit")
    text = files(hub)["README.md"].decode()
    assert text.endswith("# My birds\n\nclassmates predict hf:somebody/birds photos\n")
    assert ModelCard(text).data.license == "mit"


def test_a_model_of_the_users_own_goes_without_its_path_and_is_run_only_by_whoever_trusts_it(
    run, hub, tmp_path, monkeypatch
):
    record = RunRecord.from_json((run / "result.json").read_text())
    place = f"{tmp_path / 'a place of mine'}/own.py:Net"
    warnings = [f"the weights of {tmp_path / 'a place of mine'}/own.pth are odd"]
    (run / "result.json").write_text(replace(record, model=place, warnings=warnings).to_json())
    code = tmp_path / "own.py"
    code.write_text("from classmates.models import resnet8\n\n\ndef Net(**how):\n    return resnet8(**how)\n")
    network, card = load_student(run)
    save_student(run, network, StudentCard(**{**vars(card), "model": f"{code}:Net", "code": None}))
    classmates.push(run, "somebody/birds")
    assert json.loads(files(hub)["student.json"])["model"] == "own.py:Net"
    assert not [name for name, content in files(hub).items() if str(tmp_path).encode() in content]
    with pytest.raises(UserError, match="--trust_code true"):
        load_student("hf:somebody/birds")
    monkeypatch.chdir(tmp_path)
    theirs, _ = load_student("hf:somebody/birds", trust_code=True)
    images = torch.randn(2, 1, 8, 8)
    assert theirs(images).equal(network(images))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:somebody/nothing", "'hf:somebody/nothing' cannot be fetched from the Hub"),
        ("hf:somebody/birds@nothing", "'hf:somebody/birds@nothing' cannot be fetched"),
        ("hf:somebody/birds@", "names no revision after @"),
        ("hf:not a name", "cannot be fetched from the Hub"),
    ],
)
def test_what_is_not_there_is_told(name, message, run, hub, tmp_path):
    classmates.push(run, "somebody/birds")
    with pytest.raises(UserError, match=message):
        classmates.predict(name, [str(tmp_path)])


def test_uploads_that_cannot_be(run, hub, tmp_path):
    with pytest.raises(UserError, match=r"'forbidden/birds' cannot be uploaded to: .*no right to it"):
        classmates.push(run, "forbidden/birds")
    with pytest.raises(UserError, match="'a/b/c' cannot be uploaded to"):
        classmates.push(run, "a/b/c")
    card = (run / "student.json").read_text()
    for damaged in ("{", "[]", "{}", "[" * 100_000):
        (run / "student.json").write_text(damaged)
        with pytest.raises(UserError, match=r"student.json' is damaged"):
            classmates.push(run, "somebody/birds")
    (run / "student.json").write_text(card)
    (run / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result.json' is damaged"):
        classmates.push(run, "somebody/birds")
    with pytest.raises(UserError, match=r"is no finished run \(student.safetensors is missing\)"):
        classmates.push(tmp_path / "nowhere", "somebody/birds")
    assert hub.repos == {}
