"""Making a network better: chosen on validation images, judged once on the test, told where nothing helped."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from classmates import export
from classmates.comparisons.statistics import image_difference
from classmates.data.groups import DIVIDED
from classmates.data.loading import Split, load
from classmates.errors import UserError
from classmates.evaluation.collect import Predictions
from classmates.experiments import judging, workers
from classmates.experiments.judging import OnTest
from classmates.experiments.ledger import Ledger
from classmates.runs.exits import EXITS
from classmates.runs.record import EpochScores, RunRecord, Validation
from classmates.runs.student import load_student, read_card, write_card
from classmates.tasks.protocol import Metric
from tests.fixtures.improving import better
from tests.reporting.conftest import Page


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Two methods and two seeds, really trained."""
    return better(tmp_path_factory.mktemp("improved") / "digits")


@pytest.fixture
def found_copy(found, tmp_path):
    """The folder of all that in a copy, which a test may change."""
    return shutil.copytree(found.folder, tmp_path / "digits")


@pytest.fixture
def told(found_copy, monkeypatch):
    """Makes records say what a test wants, and students be right on as many of 400 test images as it wants, if any.

    In a copy of the folder, the same one each time.
    """

    def tell(validation, right=None, images=400, groups=None):
        real, rows = Ledger.result, {}

        def result(ledger, job):
            record = real(ledger, job)
            scores = {"student": {"top1": Metric(validation[job.row] + 1e-6 * job.seed, count=200)}}
            return record and replace(record, validation=Validation(*(EpochScores(1, scores),) * 2))

        def on_test(ledger, jobs, best):
            row = jobs[0].row
            rows[row] = len(jobs)
            is_right = torch.arange(images) < right[row]
            labels, pictures = torch.zeros(images, dtype=torch.int64), torch.zeros(images, 8, 8, 1, dtype=torch.uint8)
            split = Split(labels, pictures, None, tuple("0123456789"), groups)
            logits = torch.eye(10)[torch.where(is_right, 0, 1)]
            predictions = Predictions(labels, {"student": logits}, split=split)
            return OnTest(is_right.double().numpy()[None].repeat(len(jobs), 0), predictions)

        monkeypatch.setattr(Ledger, "result", result)
        if right is not None:
            monkeypatch.setattr(judging, "on_test", on_test)
        (found_copy / "verdict.json").unlink(missing_ok=True)
        return better(found_copy), rows

    return tell


def outcomes_slowly(run):
    """Whether the student of a run is right on each test image, without any of the package's evaluation."""
    network, card = load_student(run)
    images = load("digits", val_fraction=0)
    pixels = images.test.images.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (card.mean, card.std))
    with torch.inference_mode():
        return (network((pixels - mean) / std).argmax(1) == images.test.labels).double().numpy()


def outcomes_of(found, row):
    """Whether the students of a row, of either seed, are right on each test image, [2, images]."""
    runs = found.folder / "runs"
    return np.stack([outcomes_slowly(next(runs.glob(f"{row}-*-{seed}-*"))) for seed in (0, 1)])


def test_the_numbers_of_the_verdict_are_those_of_the_students(found):
    assert found.baseline == pytest.approx(outcomes_of(found, "Baseline").mean(), abs=2e-3)
    assert (found.images, found.seeds) == (797, (0, 1))
    validation = {one.method: one.validation for one in found.tried}
    assert found.chosen == max(validation, key=lambda row: validation[row])
    kept = json.loads((found.folder / "student" / "verdict.json").read_text())
    assert kept == json.loads((found.folder / "verdict.json").read_text())
    assert kept["lines"] == [found.headline, *found.limits]
    assert kept["next"] == found.next
    assert kept["text"] == str(found)
    assert found.headline in (found.folder / "verdict.md").read_text()


def test_the_difference_of_the_verdict_is_that_of_the_students(told, found_copy):
    for path in found_copy.glob("runs/LabelSmoothing-*/student.safetensors"):  # after one epoch all say the same
        save_file({name: -value if name == "fc.weight" else value for name, value in load_file(path).items()}, path)
    found, _ = told({"Baseline": 0.5, "LabelSmoothing": 0.6})
    baseline, other = (outcomes_of(found, row) for row in ("Baseline", "LabelSmoothing"))
    expected = image_difference(other, baseline)
    assert abs(expected.mean) > 0.01
    assert found.chosen == "LabelSmoothing"
    assert found.winner == pytest.approx(other.mean(), abs=2e-3)
    assert found.difference is not None
    assert tuple(found.difference) == pytest.approx(tuple(expected), abs=4e-3)


def test_the_page_has_the_verdict_and_the_answers_of_the_student_to_deploy(found):
    page = Page(found.page.read_text())
    right = outcomes_slowly(found.student)
    assert found.headline in page.text
    assert f"{100 * right.mean():.2f} % of the 797 test images are right" in page.text
    assert f"Next: {found.next}" in page.text
    assert re.search(r": (\d+) of 797 test images are on the diagonal", found.page.read_text())[1] == str(
        int(right.sum())
    )
    (seed,) = re.findall(r"of seed (\d) alone", page.text)
    assert RunRecord.from_json((found.student / "result.json").read_text()).seed == int(seed)
    rows = re.findall(
        r"<tr.*?<th scope=\"row\">(Baseline|LabelSmoothing)</th>(.*?)</tr>", found.page.read_text(), re.DOTALL
    )
    for method, cells in rows:
        shown = re.findall(r">([^<>]+)</td>", cells)
        validation = next(one.validation for one in found.tried if one.method == method)
        assert shown[0] == f"{100 * validation:.2f} %"
        looked = method in ("Baseline", found.chosen)
        assert shown[1] == (f"{100 * np.mean(found.on_test[method]):.2f} %" if looked else "not looked at")
    assert [method for method, _ in rows] == ["Baseline", "LabelSmoothing"]
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_no_run_looks_at_the_test_images(found):
    records = [RunRecord.from_json(path.read_text()) for path in (found.folder / "runs").glob("*/result.json")]
    assert len(records) == 4
    assert all(record.test == {} for record in records)
    assert all(record.validation.last.scores["student"]["top1"].count == 200 for record in records)


def test_the_best_on_validation_is_chosen_whatever_the_test_says(told):
    found, looked = told({"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 300, "LabelSmoothing": 200})
    assert (found.chosen, found.deployed, found.helps) == ("LabelSmoothing", "Baseline", False)
    assert found.headline.startswith(
        "nothing helped beyond chance: deploy the plain network, 75.0 % on 400 test images, 2 seeds; "
        "LabelSmoothing has 50.0 %, -25.0 points ["
    )
    assert looked == {"Baseline": 2, "LabelSmoothing": 2}
    found, looked = told({"Baseline": 0.6, "LabelSmoothing": 0.5}, {"Baseline": 200, "LabelSmoothing": 300})
    assert (found.chosen, found.deployed, found.difference) == ("Baseline", "Baseline", None)
    assert "no method did better on validation images" in found.headline
    assert looked == {"Baseline": 2}


def test_a_gain_is_told_and_its_student_copied(told):
    found, _ = told({"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 300})
    assert found.headline.startswith("your network: 50.0 % -> 75.0 %, +25.0 points [+2")
    assert found.headline.endswith("] on 400 test images, 2 seeds, with LabelSmoothing")
    (of_better_seed,) = (found.folder / "runs").glob("LabelSmoothing-*-1-*/student.safetensors")
    assert (found.student / "student.safetensors").read_bytes() == of_better_seed.read_bytes()
    card = (found.student / "README.md").read_text()
    assert "25.0 points" in card
    assert (
        "student.safetensors"
        not in card[card.index("## Compared") : card.index("## ", card.index("## Compared") + 3)]
    )
    page = Page(found.page.read_text()).text
    assert "+25.0 points Your network: 50.0 % -> 75.0 %" in page
    assert "is by resampling seeds and images, the same for both" in page
    assert "once, after that, for Baseline and LabelSmoothing alone. The interval" in page
    assert "trained with LabelSmoothing, seed 1" in page
    assert "Test images were not looked at" not in card
    assert max(map(len, found.table.splitlines())) <= 80
    load_student(found.student)


def test_the_look_is_on_record_whatever_becomes_of_the_page(told, found_copy, monkeypatch):
    def interrupted(found):
        raise KeyboardInterrupt

    monkeypatch.setattr("classmates.experiments.improve.write_page", interrupted)
    with pytest.raises(KeyboardInterrupt):
        told({"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 300, "LabelSmoothing": 320})
    assert (found_copy / "verdict.json").is_file()


def test_images_of_few_groups_say_less(told):
    validation, right = {"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 260}
    plain, _ = told(validation, right)
    assert plain.helps
    found, _ = told(validation, right, groups=torch.arange(400) // 50)
    assert "on 400 test images of 8 groups, 2 seeds" in found.headline
    assert not found.helps
    assert found.difference.mean == plain.difference.mean
    assert "the interval is too narrow: 8 groups of test images say little of others" in found.lines
    assert found.plain()["groups"] == 8
    page = Page(found.page.read_text()).text
    assert "no gain beyond chance Nothing helped" in page
    assert "is by resampling seeds and groups of images" in page
    assert "The interval is too narrow: 8 groups" in page
    alone, _ = told(validation, right, groups=torch.zeros(400))
    assert not alone.helps
    assert "LabelSmoothing has 65.0 %, +15.0 points\n" in f"{alone.headline}\n"
    assert "there is no interval: test images of one group say nothing of others" in alone.lines
    assert json.loads((alone.folder / "verdict.json").read_text())["difference"]["low"] is None
    assert not any("too narrow" in line for line in alone.lines)  # of which there is none
    page = Page(alone.page.read_text()).text
    assert "There is no interval: test images of one group" in page
    assert "resampling" not in page


def test_what_is_divided_with_any_seed_is_told_once(told, monkeypatch):
    real = RunRecord.from_json

    def noting(text):
        record = real(text)
        return replace(record, notes=[f"{DIVIDED} of 'scans': {record.seed}", f"{DIVIDED} of 'scans': all"])

    monkeypatch.setattr(RunRecord, "from_json", noting)
    found, _ = told({"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 260})
    warnings = [note for note in found.notes if DIVIDED in note]
    assert [warning.rpartition(" ")[2] for warning in warnings] == ["0", "all", "1"]


def test_nothing_of_an_earlier_student_stays(told):
    validation, right = {"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 201}
    found, _ = told(validation, right)
    old = [found.student / name for name in (EXITS, "student.pt2", "student-int8.onnx", "exports.csv")]
    mine = found.student / "notes.txt"
    for path in (*old, mine):
        path.write_bytes(b"of an earlier student")
    told(validation, {**right, "LabelSmoothing": 300})
    assert not any(path.exists() for path in old)
    assert mine.exists()


def test_the_same_student_keeps_its_temperature_and_its_exports(told):
    given = {"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 300}
    found, _ = told(*given)
    write_card(found.student, replace(read_card(found.student), temperature=1.7))
    (found.student / "student.pt2").write_bytes(b"an export of it")
    (found.student / "README.md").write_text("# My own words\n")
    export(found.student, format="safetensors")  # the same weights, with another card in their file
    told(*given)
    assert read_card(found.student).temperature == 1.7
    assert (found.student / "student.pt2").exists()
    assert (found.student / "README.md").read_text() == "# My own words\n"


def test_every_other_look_at_the_same_test_images_is_told(told, found_copy):
    validation, right = {"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 201}
    first, _ = told(validation, right)
    assert first.earlier == []
    assert not any("before" in line for line in first.lines)
    again = better(found_copy)
    assert again.earlier == []
    alone = better(found_copy, seeds=[1])
    assert alone.earlier == [first.headline]
    assert any("looked at once before" in line for line in alone.lines)
    assert (
        "The test images were looked at before, as is said above. The interval" in Page(alone.page.read_text()).text
    )
    third = better(found_copy)
    assert third.earlier == [alone.headline]  # the first said what this one says
    (found_copy / "verdict.json").write_text("{}")
    shutil.rmtree(found_copy / "student")
    with pytest.raises(UserError, match=r"verdict\.json' is damaged"):
        better(found_copy)
    assert not (found_copy / "student").exists()  # told before anything is done


def test_the_epoch_that_is_kept_is_judged(told, found_copy, monkeypatch):
    def validated(last, best):
        return Validation(*(EpochScores(1, {"student": {"top1": Metric(one, count=200)}}) for one in (last, best)))

    told({"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 201})
    real = Ledger.result
    scores = {"Baseline": validated(0.6, 0.7), "LabelSmoothing": validated(0.5, 0.8)}
    for kept, chosen in (("last", "Baseline"), ("best", "LabelSmoothing")):
        monkeypatch.setattr(
            Ledger,
            "result",
            lambda ledger, job, kept=kept: replace(real(ledger, job), validation=scores[job.row], kept=kept),
        )
        verdict = better(found_copy)
        assert verdict.chosen == chosen
    assert [one.validation for one in verdict.tried] == [pytest.approx(0.7), pytest.approx(0.8)]


def test_a_verdict_over_two_seeds_says_that_they_are_few(told):
    found, _ = told({"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 300})
    assert any("2 seeds say little" in line for line in found.lines)
    assert not any("say little" in line for line in replace(found, seeds=(0, 1, 2)).lines)


def test_rows_with_long_names_can_be_told_apart(found):
    rows = [found.tried[0]._replace(method=f"MCL(peers=2,beta=0.05,gamma={number})") for number in (1, 2)]
    first, second = replace(found, tried=tuple(rows)).table.splitlines()[1:3]
    assert first != second
    assert "MCL(peers=2,beta=0.05,gamma=1" in first


def test_a_gain_within_chance_is_none(told):
    found, _ = told({"Baseline": 0.5, "LabelSmoothing": 0.6}, {"Baseline": 200, "LabelSmoothing": 201})
    assert (found.chosen, found.deployed) == ("LabelSmoothing", "Baseline")
    assert found.headline.startswith("nothing helped beyond chance")
    of_baseline = [*(found.folder / "runs").glob("Baseline-*/student.safetensors")]
    assert (found.student / "student.safetensors").read_bytes() in [path.read_bytes() for path in of_baseline]


def test_the_same_command_repeats_nothing(found, monkeypatch):
    monkeypatch.setattr(workers, "train", lambda **arguments: pytest.fail("a run was repeated"))
    (found.folder / "verdict.json").unlink()
    for _ in range(2):
        assert str(better(found.folder)) == str(found)
