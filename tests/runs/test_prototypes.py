import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import nn

from classmates.errors import UserError
from classmates.runs.prototypes import KEY, Prototypes, file_hash, load_prototypes, student_hash
from classmates.runs.student import StudentCard, save_weights
from classmates.runs.student_files import WEIGHTS

CARD = StudentCard(None, ("a", "b"), (1, 8, 8), (0.5,), (0.2,), (8, 8))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "run" / WEIGHTS, network(), CARD)
    return tmp_path / "run"


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).to(torch.bfloat16)


@pytest.fixture
def made(run):
    centres = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    return Prototypes(centres, ("cat", "größer", "owl"), (5, 4, 1), "euclidean", 0.5, 2.5, student_hash(run))


def test_distances_and_probabilities(made):
    found = made.distances(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0, 5, 1], [3, 4, 10**0.5]], dtype=torch.float64))
    expected = torch.tensor([[0, -12.5, -0.5], [-4.5, -8, -5]], dtype=torch.float64).softmax(1)
    torch.testing.assert_close(made.probabilities(found), expected)
    two = {"class_names": ("cat", "owl"), "photos": (5, 1)}
    cosine = replace(made, distance="cosine", centres=torch.tensor([[1.0, 0.0], [0.0, 2.0]]), **two)
    found = cosine.distances(torch.tensor([[3.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0, 1]], dtype=torch.float64))
    torch.testing.assert_close(cosine.probabilities(found), torch.tensor([[0, -0.5]], dtype=torch.float64).softmax(1))


@pytest.mark.parametrize("reach", [2.5, None])
def test_what_is_saved_is_loaded(made, run, reach):
    made = replace(made, reach=reach)
    made.save(run / "new.safetensors")
    found = load_prototypes(run / "new.safetensors", run)
    assert torch.equal(found.centres, made.centres)
    assert found.described() == made.described()
    assert json.loads(made.to_json())["centres"] == made.centres.tolist()


def test_another_students_are_refused(made, run):
    made.save(run / "new.safetensors")
    renamed, reshaped = nn.ModuleDict({"0": network()[0], "2": network()[1]}), network()
    reshaped[0].weight.data = reshaped[0].weight.data.reshape(2, 3)
    for other in (network(1), network().float(), renamed, reshaped):
        save_weights(run / WEIGHTS, other, CARD)
        with pytest.raises(UserError, match=r"new\.safetensors' were made by another student than that of .*--supp"):
            load_prototypes(run / "new.safetensors", run)


def test_they_stay_with_their_student_whose_file_gets_another_card(made, run):
    made.save(run / "new.safetensors")
    save_weights(run / WEIGHTS, network(), replace(CARD, temperature=2.0))
    assert load_prototypes(run / "new.safetensors", run).described() == made.described()


def test_those_of_earlier_versions_name_the_whole_file(made, run):
    replace(made, student=file_hash(run)).save(run / "new.safetensors")
    assert load_prototypes(run / "new.safetensors", run).class_names == made.class_names


@pytest.mark.parametrize("rest", ["[]", "{}", '{"class_names": 1}', "[" * 100_000])
def test_what_goes_with_them_is_checked(made, run, rest):
    safetensors.torch.save_file({KEY: made.centres}, run / "new.safetensors", {"format": "pt", KEY: rest})
    with pytest.raises(UserError, match=r"new\.safetensors' is damaged or no file of prototypes"):
        load_prototypes(run / "new.safetensors", run)


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["a"]},
        {"class_names": ["a", "b", 3]},
        {"photos": [1]},
        {"distance": "manhattan"},
        *({"scale": value} for value in ("x", -1, 0, float("nan"), None)),
        *({"reach": value} for value in ("x", -1, 0, float("inf"))),
        {"centres": torch.zeros(3)},
        {"centres": torch.zeros(0, 2)},
        {"centres": torch.full((3, 2), float("nan"))},
        {"centres": torch.zeros(3, 2, dtype=torch.int32)},
    ],
)
def test_what_no_photos_make_is_refused(made, run, change):
    rest = json.dumps({**made.described(), **{name: value for name, value in change.items() if name != "centres"}})
    content = {KEY: change.get("centres", made.centres)}
    safetensors.torch.save_file(content, run / "new.safetensors", {"format": "pt", KEY: rest})
    with pytest.raises(UserError, match=r"new\.safetensors' is damaged or no file of prototypes"):
        load_prototypes(run / "new.safetensors", run)


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_file_that_is_none(run, content):
    path = run / "student.safetensors"
    if content is not None:
        path = run / "new.safetensors"
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged or no file of prototypes"):
        load_prototypes(path, run)


def test_where_they_can_be_saved(made, run):
    with pytest.raises(UserError, match=r"not in 'new\.pt': use 'new\.safetensors'"):
        made.save(run.relative_to(run) / "new.pt")
    with pytest.raises(UserError, match="cannot be written"):
        made.save(run / "student.safetensors" / "new.safetensors")
    with pytest.raises(UserError, match=r"there is no file of prototypes '.*none.*--save_prototypes FILE makes one"):
        load_prototypes(run / "none.safetensors", run)
