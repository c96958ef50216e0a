"""What is said of an exported network: paired differences, agreement, times."""

import time

import numpy as np
import pytest
import torch

from classmates.deployment.measuring import compared, latency, latency_of, paired_difference
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


def test_times():
    assert latency_of([0.001] * 95 + [0.1] * 5) == pytest.approx((1.0, 5.95, 5.95))
    calls = []
    found = latency(lambda images: (calls.append(len(images)), time.sleep(0.002)), torch.zeros(3, 1))
    assert found.median >= 2
    assert set(calls) == {3}
