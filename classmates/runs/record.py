"""The result of a run, ``result.json``: its one schema, how it is written and how every version of it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar, get_args

from classmates.errors import UserError
from classmates.runs.plain_values import in_unicode_throughout
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.protocol import Better, Metric, MetricFormat, ProtocolRecord, Scores

VERSION = 2
Kept = Literal["last", "best"]
"""The epoch whose networks are scored and deployed: the last, or the best one on validation images."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class EpochScores:
    """The scores of every network on the validation split after one epoch."""

    epoch: int
    scores: dict[str, Scores]


@dataclass(frozen=True)
class Validation:
    """The validation scores of the last epoch, and of the epoch that was best for the student."""

    last: EpochScores
    best: EpochScores


@dataclass(frozen=True)
class EarlyExits:
    """The scores of a network with early exits: thresholds tuned on validation, scored on test images.

    thresholds: one an exit. accuracy: fraction of images that are right. cost: mean compute of an image, 1 the plain
    network's. saved: 1 − cost. shares: fraction of the images that each exit answers, then the ensemble.
    """

    thresholds: list[float]
    accuracy: float
    cost: float
    saved: float
    shares: list[float]


@dataclass(frozen=True)
class TrainingCost:
    """The cost of training: ``epochs`` that were done; ``peak_memory_mib`` is None where it was not measured."""

    epochs: int
    steps: int
    seconds: float
    images_per_second: float
    peak_memory_mib: float | None


@dataclass(frozen=True)
class StudentSize:
    """The size of the deployed network; ``multiply_adds`` are of one image."""

    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class RunRecord:
    """Everything that ``result.json`` holds.

    Args:
        name, method, model, data, seed: what was trained, on what.
        epochs: how many were asked for.
        finished: when the run ended.
        protocol: how the networks were judged.
        test: the scores of the networks that were kept; empty where the test images were not looked at.
        validation: the same on the validation split; None without one.
        exits: None for a network without exits, or without validation images to tune them on.
        training: what it took.
        student: the size of the network that is deployed.
        training_parameters: of all networks together.
        train_images: how many there were.
        notes: what had to be decided or went other than asked.
        environment: versions, hardware and commit.
        config: the settings, as ``config.yaml`` has them.
        warnings: what speaks against the student, in sentences.
        useless: whether it is no better than always giving the commonest answer.
        stopped_early: whether training ended before its last epoch because validation scores rose no more.
        kept: the epoch whose networks ``test`` is of and whose student is deployed.
        test_last: where that is not the last one: the test scores after the last epoch, by network.
        drawn: by split, the hash of what was drawn to judge by, such as a list of episodes; empty without.
        images: by split, the hash by which its images are known again; empty in runs of earlier versions.
        version: of this schema.
    """

    name: str
    method: str
    model: str
    data: str
    seed: int
    epochs: int
    finished: datetime
    protocol: ProtocolRecord
    test: dict[str, Scores]
    validation: Validation | None
    exits: EarlyExits | None
    training: TrainingCost
    student: StudentSize
    training_parameters: int
    train_images: int
    notes: list[str]
    environment: dict[str, Any]
    config: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    useless: bool = False
    stopped_early: bool = False
    kept: Kept = "last"
    test_last: dict[str, Scores] = field(default_factory=dict)
    drawn: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    version: int = VERSION

    @property
    def complete(self) -> bool:
        """Return whether training came to its end, its last epoch or the stop that was asked for."""
        return self.stopped_early or self.training.epochs == self.epochs

    @property
    def validated(self) -> EpochScores | None:
        """Return the validation scores of the networks that were kept; None without any."""
        return None if self.validation is None else getattr(self.validation, self.kept)

    def headline(self, who: str = "student") -> Metric:
        """Return the metric of a network that tables go by, on the test images."""
        return self.test[who][self.protocol.headline]

    def to_json(self) -> str:
        """Return it as ``result.json`` holds it."""
        content = in_unicode_throughout({"version": self.version, **asdict(self)})
        return json.dumps(content, indent=2, ensure_ascii=False, default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """Read what :meth:`to_json` of this or an earlier version wrote; the student comes first among networks.

        Raises:
            UserError: it is of a later version.
            ValueError: it is damaged; the message says where.
        """
        try:
            content = json.loads(text, parse_constant=_no_number)
            version = int(content.get("version", 1))
            if version > VERSION:
                raise UserError(
                    f"results of version {version} are not known here, only up to {VERSION}: "
                    "a later classmates wrote them; update it"
                )
            if version < 1:
                raise ValueError(f"version is {version}")
            return _record(_from_version_1(content) if version == 1 else content)
        except KeyError as error:
            raise ValueError(f"missing: {error}") from error
        except (AttributeError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(str(error)) from error


def _no_number(word: str) -> float:
    raise ValueError(f"it holds {word.lower()}, which is no number")


def _record(content: Mapping[str, Any]) -> RunRecord:
    protocol = _protocol(content["protocol"])

    def networks(given: Mapping[str, Any]) -> dict[str, Scores]:
        student_first = {"student": given["student"], **given}
        scores = {who: {name: _metric(one) for name, one in of.items()} for who, of in student_first.items()}
        for who, of in scores.items():
            if protocol.headline not in of:
                raise KeyError(f"{protocol.headline} of {who}")
        return scores

    def epoch(given: Mapping[str, Any]) -> EpochScores:
        return EpochScores(int(given["epoch"]), networks(given["scores"]))

    training, student = content["training"], content["student"]
    return RunRecord(
        name=str(content["name"]),
        method=str(content["method"]),
        model=str(content["model"]),
        data=str(content["data"]),
        seed=int(content["seed"]),
        epochs=int(content["epochs"]),
        finished=datetime.fromisoformat(content["finished"]),
        protocol=protocol,
        test={} if content["test"] == {} else networks(content["test"]),
        validation=_if_given(
            lambda given: Validation(epoch(given["last"]), epoch(given["best"])), content["validation"]
        ),
        exits=_if_given(_exits, content["exits"]),
        training=TrainingCost(
            epochs=int(training["epochs"]),
            steps=int(training["steps"]),
            seconds=float(training["seconds"]),
            images_per_second=float(training["images_per_second"]),
            peak_memory_mib=_if_given(float, training["peak_memory_mib"]),
        ),
        student=StudentSize(int(student["parameters"]), int(student["multiply_adds"])),
        training_parameters=int(content["training_parameters"]),
        train_images=int(content["train_images"]),
        notes=[str(note) for note in content["notes"]],
        environment=dict(content["environment"]),
        config=dict(content["config"]),
        warnings=[str(warning) for warning in content.get("warnings", [])],
        useless=bool(content.get("useless", False)),
        stopped_early=bool(content.get("stopped_early", False)),
        kept="best" if content.get("kept") == "best" else "last",
        test_last=networks(content["test_last"]) if content.get("test_last") else {},
        drawn={str(split): str(found) for split, found in content.get("drawn", {}).items()},
        images={str(split): str(found) for split, found in content.get("images", {}).items()},
    )


def _protocol(given: Mapping[str, Any]) -> ProtocolRecord:
    metrics = {
        str(name): MetricFormat(str(how["title"]), str(how["name"]), bool(how["percent"]), _better(how["better"]))
        for name, how in given["metrics"].items()
    }
    if given["headline"] not in metrics:
        raise KeyError(f"format of {given['headline']}")
    return ProtocolRecord(
        name=str(given["name"]),
        headline=str(given["headline"]),
        metrics=metrics,
        counted=str(given["counted"]),
        judged=str(given.get("judged", "logits")),
        settings=dict(given.get("settings", {})),
        caution=str(given.get("caution", "")),
        outcomes=bool(given.get("outcomes", False)),
    )


def _metric(given: Mapping[str, Any]) -> Metric:
    return Metric(
        value=float(given["value"]),
        low=_if_given(float, given["low"]),
        high=_if_given(float, given["high"]),
        count=_if_given(int, given["count"]),
        better=_better(given["better"]),
    )


def _exits(given: Mapping[str, Any]) -> EarlyExits:
    return EarlyExits(
        thresholds=[float(value) for value in given["thresholds"]],
        accuracy=float(given["accuracy"]),
        cost=float(given["cost"]),
        saved=float(given["saved"]),
        shares=[float(value) for value in given["shares"]],
    )


def _better(word: Any) -> Better:
    if word not in get_args(Better):
        raise ValueError(f"better is {word!r}")
    return "more" if word == "more" else "less"


def _if_given(read: Callable[[Any], Value], given: Any) -> Value | None:
    return None if given is None else read(given)


def _from_version_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a result of version 1, which knew classification alone, as version 2 has it."""
    protocol = ClassificationProtocol()

    def networks(given: Mapping[str, Any]) -> dict[str, Any]:
        found = {who: protocol.read_version_1(scores) for who, scores in given.items() if who != "epoch"}
        return {who: {name: asdict(metric) for name, metric in scores.items()} for who, scores in found.items()}

    validation, exits = content["validation"], content.get("exits")
    return {
        **content,
        "protocol": asdict(protocol.record),
        "test": networks(content["test"]),
        "validation": validation
        and {name: {"epoch": one["epoch"], "scores": networks(one)} for name, one in validation.items()},
        "exits": exits and {**exits, "accuracy": exits[protocol.headline]},
        "config": content.get("config", {}),
    }
