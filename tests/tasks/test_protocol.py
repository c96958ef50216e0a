"""A protocol is all that is known of metrics: their names, which way they are better, how they are written."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.metrics import RunningAccuracy
from classmates.tasks.protocol import Metric, MetricFormat, ProtocolRecord

PROTOCOL = ClassificationProtocol()
DISTANCE = ProtocolRecord("ranking", "rank", {"rank": MetricFormat("rank", "mean rank", better="less")}, "queries")


def test_the_record_of_classification() -> None:
    record = PROTOCOL.record
    assert (record.name, record.headline, record.mode, record.counted) == ("classification", "top1", "max", "images")
    assert (PROTOCOL.mode, PROTOCOL.monitored) == ("max", "val/student/top1")
    assert list(record.metrics) == ["top1", "top5", "nll", "brier", "ece"]
    assert [name for name, how in record.metrics.items() if how.better == "less"] == ["nll", "brier", "ece"]
    assert str(record) == "classification"
    assert hash(record) == hash(PROTOCOL.record)


def test_less_may_be_better() -> None:
    assert (DISTANCE.mode, DISTANCE.monitored) == ("min", "val/student/rank")
    assert DISTANCE.main.heading == "rank"


def test_at_chance_is_what_is_no_better_whichever_way_is_better() -> None:
    told = "its top-1 is 60.00%, and always giving the commonest answer has 60.00%"
    assert PROTOCOL.record.at_chance(Metric(0.6), 0.6) == told
    assert PROTOCOL.record.at_chance(Metric(0.61), 0.6) is None
    assert DISTANCE.at_chance(Metric(3.0, better="less"), 2.5) is not None
    assert DISTANCE.at_chance(Metric(2.0, better="less"), 2.5) is None


def test_metrics_as_text() -> None:
    share, number = PROTOCOL.metrics["top1"], PROTOCOL.metrics["nll"]
    assert (share.text(0.98754), number.text(0.05349)) == ("98.75%", "0.053")
    assert (share.heading, number.heading) == ("top-1, %", "NLL")
    assert share.interval(Metric(0.5, 0.25, 0.75)) == "25.00%-75.00%"
    assert share.interval(Metric(0.5)) == ""
    assert (Metric(0.5, 0.25, 0.7).half_width, Metric(0.5).half_width) == (pytest.approx(0.225), None)


def test_a_table_has_the_metrics_that_there_are() -> None:
    student = {"top1": Metric(0.5, 0.25, 0.75, 8), "nll": Metric(1.5, count=8, better="less")}
    table = PROTOCOL.record.table("test", {"student": student, "peer1": {"top1": Metric(0.125, 0.1, 1.0, 8)}})
    assert [line.split() for line in table.splitlines()] == [
        ["test", "top-1", "95", "%", "interval", "NLL"],
        ["student", "50.00%", "25.00%-75.00%", "1.500"],
        ["peer1", "12.50%", "10.00%-100.00%", "-"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_a_plain_network_is_judged_as_the_student_is() -> None:
    network, images, labels = nn.Linear(3, 7), torch.randn(20, 3), torch.randint(7, (20,))
    predictions = PROTOCOL.predictor(network)(images)
    running = PROTOCOL.running()
    assert isinstance(running, RunningAccuracy)
    running.update(predictions, labels)
    scores = PROTOCOL.score(predictions, labels)
    assert running.compute()[PROTOCOL.headline] == scores[PROTOCOL.headline].value
    assert list(scores) == list(PROTOCOL.metrics)


def test_the_mean_of_the_outcomes_is_the_headline() -> None:
    predictions, labels = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.5]]), torch.tensor([0, 1, 1])
    outcomes = PROTOCOL.outcomes(predictions, labels)
    assert outcomes.tolist() == [1, 1, 0]
    assert outcomes.dtype == torch.float64
    assert outcomes.mean().item() == PROTOCOL.score(predictions, labels)[PROTOCOL.headline].value


def test_scores_of_version_1_are_read() -> None:
    old = json.loads((Path(__file__).parents[2] / "results" / "digits-500" / "teacher.json").read_text())
    plain = old["test"]["student"]
    scores = PROTOCOL.read_version_1(plain)
    assert {name: metric.value for name, metric in scores.items()} == {name: plain[name] for name in PROTOCOL.metrics}
    assert [scores["top1"].low, scores["top1"].high] == plain["top1_interval"]
    assert {metric.count for metric in scores.values()} == {797}
    assert scores["nll"].better == "less"
    few_classes = {name: value for name, value in plain.items() if name != "top5"}
    assert "top5" not in PROTOCOL.read_version_1(few_classes)
    with pytest.raises(KeyError, match="nll"):
        PROTOCOL.read_version_1({name: value for name, value in plain.items() if name != "nll"})
