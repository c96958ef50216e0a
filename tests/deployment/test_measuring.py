"""What is said of an exported network: paired differences, agreement, times."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t

from classmates import export
from classmates.deployment.measuring import Images, compared, latency, latency_of, paired_difference
from classmates.runs.student import read_card
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.few_shot import FewShot


def test_the_paired_difference_is_the_textbooks():
    random = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randint(2, (200,), generator=random) for _ in range(2))
    found = paired_difference(ours, theirs)
    differences = [int(one) - int(other) for one, other in zip(ours, theirs, strict=True)]
    half = 1.959964 * np.std(differences, ddof=1) / np.sqrt(200)
    assert found == pytest.approx((np.mean(differences), np.mean(differences) - half, np.mean(differences) + half))
    assert paired_difference(ours, ours) == (0, None, None)  # of which no spread is known
    assert found.in_points().count("[") == 1


def test_the_paired_difference_of_images_in_groups_is_that_of_groups():
    """Copies of an image are one image, of as many as there are groups; one group alone has no interval."""
    random = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randint(2, (6,), generator=random).double() for _ in range(2))
    groups = torch.tensor([5, 3, 9, 0, 1, 7])
    found = paired_difference(*(values.repeat_interleave(20) for values in (ours, theirs, groups)))
    differences = (ours - theirs).numpy()
    half = t.ppf(0.975, 5) * np.std(differences, ddof=1) / np.sqrt(6)
    assert found == pytest.approx((differences.mean(), differences.mean() - half, differences.mean() + half))
    alone = paired_difference(torch.ones(4), torch.tensor([1.0, 0, 1, 1]), torch.full((4,), 2))
    assert alone == (0.25, None, None)
    assert alone.in_points() == "+25.00"
    assert paired_difference(torch.ones(4), torch.ones(4), torch.full((4,), 2)) == (0, None, None)


def test_answers_allow_for_groups_of_images_but_not_of_episodes():
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(30)
    groups = torch.arange(120) // 12
    student, other = (torch.randn(120, 4, generator=random) for _ in range(2))
    plain, grouped = (compared(other, student, labels, ClassificationProtocol(), of) for of in (None, groups))
    assert (plain.score.value, plain.difference.mean) == (grouped.score.value, grouped.difference.mean)
    assert grouped.score == ClassificationProtocol().score(other, labels, groups)["top1"] != plain.score
    assert grouped.difference == paired_difference(
        *(ClassificationProtocol().outcomes(given, labels) for given in (other, student)), groups
    )
    episodes = FewShot(eval_way=3, eval_episodes=20).protocol
    assert compared(other, student, labels, episodes, groups) == compared(other, student, labels, episodes)


def test_answers_beside_the_students():
    labels = torch.tensor([0, 1, 2, 1])
    student = torch.eye(3)[labels]
    other = torch.eye(3)[torch.tensor([0, 1, 1, 0])]
    answers = compared(other, student, labels, ClassificationProtocol())
    assert answers.score.value == answers.agreement == 0.5
    assert answers.difference.mean == -0.5


def test_what_a_file_is_fitted_to_is_never_what_it_is_scored_on(sd_run, tmp_path, capsys):
    for name in "13":
        (tmp_path / "digits" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), 40 * number).save(tmp_path / "digits" / name / f"{number}.png")
    own, other = (
        Images(sd_run, read_card(sd_run), data, None, trust_code=False) for data in (None, tmp_path / "digits")
    )
    assert len(other.part("test").test) == 6
    for part in ("train", "val"):
        assert torch.equal(other.part(part).test.images, own.part(part).test.images)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if f"every image of {tmp_path / 'digits'} is scored" in line]
    assert [line for line in said if "'digits' has no image of classes '0', '2', '4', '5', '6' and 3 more" in line]
    assert len(said) == 2


def test_images_that_are_timed_are_of_all_classes(sd_run, tmp_path):
    for name in "0123456789":
        (tmp_path / "sorted" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), 10 * number).save(tmp_path / "sorted" / name / f"{number}.png")
    images = Images(sd_run, read_card(sd_run), tmp_path / "sorted", None, trust_code=False)
    drawn = [int(label) for _, label in images.batches("test", 1, 200)]
    assert sorted(drawn) == [label for label in range(10) for _ in range(20)]
    assert len(set(drawn[:40])) > 5  # also of the first of them
    assert len({image.mean().item() for image in images.timed(32)}) > 5


def test_measures_on_other_images_are_not_in_the_card(sd_copy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("classmates.deployment.measuring.MOST_SECONDS", 0.0)
    for name in "0123456789":
        (tmp_path / "other" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 20).save(tmp_path / "other" / name / "0.png")
    export(sd_copy, formats=["torch"])
    before = read_card(sd_copy)
    assert before.exports
    for how in ({"formats": ["torch"]}, {"what": "early_exit"}):
        export(sd_copy, data=tmp_path / "other", **how)
        assert read_card(sd_copy).exports == before.exports
        assert "what was measured on them is in the table, not in its card" in capsys.readouterr().err


def test_times():
    assert latency_of([0.001] * 95 + [0.1] * 5) == pytest.approx((1.0, 5.95, 5.95))
    calls = []
    found = latency(lambda images: (calls.append(len(images)), time.sleep(0.002)), torch.zeros(3, 1))
    assert found.median >= 2
    assert set(calls) == {3}


def test_answers_keep_nothing_for_gradients(sd_run):
    images = Images(sd_run, read_card(sd_run), None, None, trust_code=False)
    layer = torch.nn.Linear(1, 3)
    answers, _ = images.answers(lambda batch: layer(batch.mean((1, 2, 3))[:, None]), 8, "layer")
    assert not answers.requires_grad
