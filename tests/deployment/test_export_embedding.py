"""The embedding of a student, and the prototypes that go with it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors
import torch

from classmates.deployment.export import export
from classmates.errors import UserError
from classmates.networks.building.build import build_model
from classmates.runs.prototypes import Prototypes, load_prototypes, student_hash
from classmates.runs.student import StudentCard, load_embedder, save_student

NETWORK = """
from torch import nn

def Small(num_classes):
    body = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6), nn.Tanh()]
    return nn.Sequential(*body, nn.Linear(6, num_classes))
"""


OUT = {"safetensors": "out.safetensors", "torch": "out.pt2"}


def save_run(run: Path, output: str = "logits") -> Path:
    """A student of a run, and the prototypes of two new classes in new.safetensors."""
    run.mkdir()
    (run / "small.py").write_text(NETWORK)
    card = StudentCard(f"{run / 'small.py'}:Small", ("a", "b", "c"), (1, 8, 8), (0.5,), (0.25,), (8, 8))
    torch.manual_seed(0)
    network = build_model(str(card.model), 3)
    if output == "embedding":
        network[-1] = torch.nn.Identity()
    save_student(run, network, replace(card, output=output))
    centres = torch.randn(2, 6)
    made = Prototypes(centres, ("new", "größer"), (5, 5), "euclidean", 0.5, 2.0, student_hash(run))
    made.save(run / "new.safetensors")
    return run


def test_onnx_and_the_prototypes_in_it_answer_as_predict_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run")
    path = export(run, what="embedding", prototypes=run / "new.safetensors", trust_code=True)
    assert path == run / "embedding.onnx"
    assert "embedding.onnx: embeddings differ from the student's by at most" in capsys.readouterr().err
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    kept = json.loads(metadata["prototypes"])
    assert json.loads(metadata["class_names"]) == kept["class_names"] == ["new", "größer"]
    assert StudentCard.from_json(metadata["classmates"]).output == "embedding"
    images = torch.randn(4, 1, 8, 8)
    embeddings = session.run(["embedding"], {"images": images.numpy()})[0]
    squares = np.square(embeddings[:, None] - np.array(kept["centres"])).sum(-1)
    odds = np.exp(-kept["scale"] * squares)
    known = load_prototypes(run / "new.safetensors", run)
    with torch.no_grad():
        expected = known.probabilities(known.distances(load_embedder(run, trust_code=True)[0](images)))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), expected, atol=1e-5)


@pytest.mark.parametrize(("output", "what"), [("logits", "embedding"), ("embedding", "student")])
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_other_formats(tmp_path: Path, output: str, what: str, format: str) -> None:
    run = save_run(tmp_path / "run", output)
    given = {"what": what, "format": format, "out": run / OUT[format]}
    path = export(run, prototypes=run / "new.safetensors", trust_code=True, **given)
    files = {"prototypes": "", "classmates": ""}
    if format == "torch":
        torch.export.load(path, extra_files=files)
    else:
        with safetensors.safe_open(path, "pt") as file:
            files, names = file.metadata(), [*file.keys()]
        assert [name for name in names if name.startswith("5.")] == []  # the classifier
    assert json.loads(files["prototypes"])["class_names"] == ["new", "größer"]
    assert StudentCard.from_json(files["classmates"]).output == "embedding"


def test_wrong_input(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    before = sorted(run.iterdir())
    for options, message in (
        ({"what": "embeding"}, "unknown what 'embeding': did you mean 'embedding'"),
        ({"prototypes": run / "new.safetensors"}, "the file would give logits: say --what embedding"),
        ({"what": "embedding", "prototypes": run / "no.safetensors"}, "there is no file of prototypes"),
    ):
        with pytest.raises(UserError, match=message):
            export(run, trust_code=True, **options)
    assert sorted(run.iterdir()) == before
