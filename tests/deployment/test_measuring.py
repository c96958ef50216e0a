"""What is said of an exported network: paired differences, agreement, times."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.deployment.measuring import Images, compared, latency, latency_of, paired_difference
from classmates.runs.student import read_card
from classmates.tasks.classification import ClassificationProtocol


def test_the_paired_difference_is_the_textbooks():
    random = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randint(2, (200,), generator=random) for _ in range(2))
    found = paired_difference(ours, theirs)
    differences = [int(one) - int(other) for one, other in zip(ours, theirs, strict=True)]
    half = 1.959964 * np.std(differences, ddof=1) / np.sqrt(200)
    assert found == pytest.approx((np.mean(differences), np.mean(differences) - half, np.mean(differences) + half))
    assert paired_difference(ours, ours) == (0, 0, 0)


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


def test_times():
    assert latency_of([0.001] * 95 + [0.1] * 5) == pytest.approx((1.0, 5.95, 5.95))
    calls = []
    found = latency(lambda images: (calls.append(len(images)), time.sleep(0.002)), torch.zeros(3, 1))
    assert found.median >= 2
    assert set(calls) == {3}
