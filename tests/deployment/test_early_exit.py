"""A student that answers early: the ONNX file does what PyTorch does and no more, and what it saves is measured."""

import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from classmates import export, load_student, predict
from classmates.deployment import early_exit as module
from classmates.deployment import measuring
from classmates.deployment.early_exit import chosen
from classmates.deployment.early_exit_graph import cut, early_exit_model, every_exit_model
from classmates.deployment.formats import Source, onnx_session
from classmates.deployment.measuring import Latency
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.heads.exits import MultiExit, ShallowExits, first_confident
from classmates.runs.folder import read_record
from classmates.runs.student import StudentCard, read_card

pytestmark = pytest.mark.long

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def every():
    """Three exits, and the ONNX model of all of them."""
    from tests.conftest import TinyNetwork

    torch.manual_seed(0)
    network = TinyNetwork(4, (4, 6, 10), 3).eval()
    architecture = inspect_network(network, SHAPE)
    exits = MultiExit(network, architecture, ShallowExits(architecture, 3, attention=True)).eval()
    card = StudentCard(None, tuple("abcd"), SHAPE, (0.5,) * 3, (0.2,) * 3, (16, 16))
    return exits, every_exit_model(exits, Source(network, card))


@torch.no_grad()
def test_the_file_gives_the_first_confident_exits_answer(every):
    exits, model = every
    images = torch.randn(12, *SHAPE, generator=torch.Generator().manual_seed(1))
    everyone = exits(images)
    confidences = everyone.softmax(-1).amax(-1)
    between = confidences.sort(1).values[:, 5:7].mean(1).tolist()
    for thresholds in (between, [0.0] * 3, [1.0, 0.0, 0.0], [1.0] * 3):
        made = early_exit_model(model, 4, thresholds)
        onnx.checker.check_model(made, full_check=True)
        session = onnx_session(made.SerializeToString(), 1)
        found = [session.run(["logits", "exit"], {"images": image[None].numpy()}) for image in images]
        place = first_confident(confidences, torch.tensor(thresholds))
        assert [int(by[0]) for _, by in found] == place.tolist()
        logits = np.concatenate([logits for logits, _ in found])
        np.testing.assert_allclose(logits, chosen(everyone, thresholds), atol=1e-5)


def test_what_is_deeper_is_in_the_branch_of_those_who_need_it(every):
    """Every convolution of the network is in one graph only, and the outermost has the first stage's alone."""
    _, model = every
    graph = early_exit_model(model, 4, [0.5] * 3).graph
    counts = []
    while graph is not None:
        counts.append(sum(node.op_type == "Conv" for node in graph.node))
        branches = [each.g for node in graph.node for each in node.attribute if each.name == "else_branch"]
        graph = branches[0] if branches else None
    assert sum(counts) == sum(node.op_type == "Conv" for node in model.graph.node)
    assert len(counts) == 4
    assert counts[-1] == 0
    assert all(counts[:-1])


def test_cut_follows_the_data_alone():
    make = onnx.helper.make_node
    nodes = [
        make("Relu", ["x"], ["a"]),
        make("Relu", ["a"], ["b"]),
        make("Relu", ["x"], ["unused"]),
        make("Add", ["b", "a"], ["c"]),
    ]
    parts = cut(nodes, ["a", "c"])
    assert [[node.output[0] for node in part] for part in parts] == [["a"], ["b", "c"]]


@pytest.fixture(scope="module")
def exported(sd_run, tmp_path_factory):
    """A run's folder with its early exits exported, and what was found: timed on five images, and once in PyTorch."""
    folder = shutil.copytree(sd_run, tmp_path_factory.mktemp("exported") / "sd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TIMED", 5)
        patch.setattr(measuring, "MOST_SECONDS", 0.0)
        found = export(folder, what="early_exit")
    return folder, found


def test_export_tunes_measures_and_notes(exported, tmp_path):
    folder, found = exported
    record = read_record(folder / "result.json")
    card = read_card(folder)
    student, tuned, *common = found.points
    assert list(card.exit_thresholds) == record.exits.thresholds
    assert tuned.accuracy == record.exits.accuracy
    assert tuned.cost == pytest.approx(record.exits.cost)
    assert student.accuracy == record.headline().value
    assert tuned.difference.mean == pytest.approx(tuned.accuracy - student.accuracy)
    assert [point.name for point in common] == [f"{value:g}" for value in module.COMMON]
    assert {"early_exit.onnx", "early_exit.csv", "early_exit.svg", "early_exit.png"} <= set(os.listdir(folder))
    assert card.exports["early_exit"]["accuracy"] == tuned.accuracy
    text = str(found)
    assert max(len(line) for line in text.splitlines() if str(folder) not in line) <= 80
    assert "answering early saves" in text or "answering early takes" in text
    assert text.endswith("--early_exit") is found.saves

    early = load_student(folder, early_exit=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(tmp_path / "a.png")
    table = predict(folder, [str(tmp_path / "a.png")], early_exit=True)
    assert table["probability"].item() == pytest.approx(early.predict(tmp_path / "a.png")["probability"].item())


@pytest.mark.parametrize(
    ("milliseconds", "said", "flag"),
    [
        (5.0, "answering early saves 50% of the time of a mean image", " --early_exit"),
        (9.9, "answering early saves no time to speak of on this machine", ""),
        (15.3, "answering early takes 53% longer on this machine", ""),
    ],
)
def test_what_it_says_to_do_next_is_what_its_verdict_says(exported, milliseconds, said, flag):
    _, found = exported
    student, tuned, *common = found.points
    timed = [
        replace(one, latency=Latency(time, time, time)) for one, time in ((student, 10.0), (tuned, milliseconds))
    ]
    text = str(replace(found, points=(*timed, *common)))
    assert said in " ".join(text.split())
    assert text.endswith(f"IMAGES{flag}")


def test_what_else_the_machine_does_is_in_no_row_alone(every, monkeypatch):
    """A clock on which a hundred calls in a row take ten times as long: the medians of all models are the same."""
    _, model = every
    calls, now = [], [0.0]

    def clock():
        calls.append(None)
        now[0] += 0.01 if 200 < len(calls) < 400 else 0.001
        return now[0]

    monkeypatch.setattr(module.time, "perf_counter", clock)
    models = [early_exit_model(model, 4, [threshold] * 3) for threshold in (0.0, 0.5, 1.0)]
    found = module.time_each(models, [torch.zeros(1, *SHAPE)] * 20, 1)
    assert [one.mean for one in found] == pytest.approx([1.0] * 3)


def test_as_many_images_are_timed_as_the_table_says(sd_copy, monkeypatch, tmp_path):
    for name in range(10):
        (tmp_path / "few" / str(name)).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 25 * name, np.uint8)).save(tmp_path / "few" / str(name) / "0.png")
    sizes = []

    def latency(runner, images):
        sizes.append(len(images))
        return Latency(1.0, 1.0, 1.0)

    monkeypatch.setattr(module, "latency", latency)
    monkeypatch.setattr("classmates.deployment.measured.latency", latency)
    monkeypatch.setattr(module, "check_file", lambda *_: None)
    found = export(sd_copy, what="early_exit", data=tmp_path / "few")
    assert found.count == 10
    assert "in PyTorch, 32 images at a time" in str(found)
    assert sizes == [32, 32]
    sizes.clear()
    export(sd_copy, formats=["torch"], data=tmp_path / "few")
    assert sizes == [1, 32] * 2


def test_a_file_that_answers_otherwise_is_not_kept(sd_copy, monkeypatch):
    monkeypatch.setattr(
        module, "early_exit_model", lambda every, classes, _: early_exit_model(every, classes, [0.0] * 3)
    )
    monkeypatch.setattr(module, "tune_thresholds", lambda *_: [1.0, 1.0, 1.0])
    with pytest.raises(UserError, match=r"says another class than PyTorch of .* of the test images: it was not kept"):
        export(sd_copy, what="early_exit")
    assert "early_exit.onnx" not in os.listdir(sd_copy)
    assert read_card(sd_copy).exit_thresholds is None
