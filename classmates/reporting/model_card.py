"""``README.md`` of a run: the model card, as the Hugging Face Hub reads it, made of the run's record alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from classmates._files import write_text
from classmates._own_code import is_file_name
from classmates.reporting.page import KEPT, duration, flat, interval, shown
from classmates.runs.record import RunRecord
from classmates.tasks.protocol import Scores

CARD_FILE = "README.md"
REPOSITORY = "OWNER/NAME"
"""The place of the repository's name in a card that is not on the Hub yet."""
WRITTEN = "<!-- Written by classmates. Without this line `classmates push` takes this file as it is. -->"
NOT_COMPARED = "With no other method: `classmates improve` and `classmates compare` tell whether the method helped."
LICENCE = (
    "The licence of the weights is for whoever publishes them to say; those of the training images, and of weights "
    "that training began from, if any, hold too."
)
SHOWN_CLASSES = 50
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
BEGINS = r"(?<![\w.:/~])"
"""What a full path in a text comes after: not in the midst of an address or of another path."""
FOLDERS = re.compile(rf"{BEGINS}~?/(?:[^/\s'\"]+/)+")
SHOWN_SETTINGS = ("epochs", "batch_size", "optimizer", "lr", "schedule", "warmup_epochs", "image_size", "pretrained")
"""The settings that a card says; ``config.yaml`` has every one."""


def write_model_card(folder: Path) -> None:
    """Write the card of the finished run in a folder; one of the user's own stays as it is."""
    card = folder / CARD_FILE
    if not card.is_file() or WRITTEN in card.read_text(encoding="utf-8", errors="replace"):
        write_text(card, model_card(folder))


def model_card(folder: Path) -> str:
    """Return the card of the finished run in a folder: metadata in YAML, and a page in Markdown."""
    record = RunRecord.from_json((folder / "result.json").read_text(encoding="utf-8"))
    student = json.loads((folder / "student.json").read_text(encoding="utf-8"))
    verdict = folder / "verdict.json"  # of ``improve``
    lines = json.loads(verdict.read_text(encoding="utf-8"))["lines"] if verdict.is_file() else []
    parts = [WRITTEN, f"# {plain(record.name)}", *page(record, student, lines)]
    body = "\n\n".join(parts)
    return f"---\n{metadata(record, student).to_yaml()}\n---\n\n{body}\n"


def metadata(record: RunRecord, student: Mapping[str, Any]) -> ModelCardData:
    """Return what the Hub searches and shows: the kind of model, the data, the scores."""
    split, scores = judged(record)
    task = "image-classification" if student.get("output", "logits") == "logits" else "image-feature-extraction"
    data = str(record.config.get("data", ""))
    results = [
        EvalResult(
            task_type=task,
            dataset_type=data.removeprefix("hf:") if data.startswith("hf:") else slug(record.data),
            dataset_name=record.data,
            dataset_split=split,
            metric_type=name,
            metric_name=record.protocol.metrics[name].name,
            metric_value=metric.value,
        )
        for name, metric in scores.items()
        if name in record.protocol.metrics
    ]
    return ModelCardData(
        library_name="classmates",
        pipeline_tag=task,
        tags=["classmates", "knowledge-distillation", record.method],
        datasets=[data.removeprefix("hf:").partition(":")[0]] if data.startswith("hf:") else None,
        model_name=record.name if results else None,
        eval_results=results or None,
    )


def judged(record: RunRecord) -> tuple[str, Scores]:
    """Return the split by which the student is judged, test images if they were looked at, and its scores there."""
    if record.test:
        return "test", record.test["student"]
    return "validation", record.validated.scores["student"] if record.validated else {}


def page(record: RunRecord, student: Mapping[str, Any], compared: Sequence[str]) -> Iterator[str]:
    """Yield the paragraphs of the card. compared: what a comparison with other methods has found, a sentence each."""
    known = folders_of(record.config)
    size = f"{record.student.parameters:,} parameters and {record.student.multiply_adds:,} multiply-adds an image"
    model, data = public(record.model, known), plain(record.data)
    yield f"{plain(model)}, trained with {plain(record.method)} on {data}: {size}."
    yield from (f"**Warning**: {plain(public(without_stop(text), known))}." for text in record.warnings)
    yield "## Use"
    yield from use(student)
    steps = [f"{number}. {plain(step)}" for number, step in enumerate(student.get("preparation", []), start=1)]
    yield "\n".join(["Images are prepared like this, which `predict` does by itself:", "", *steps])
    yield from scores_of(record, compared=bool(compared))
    lines = [plain(public(line, known)) for line in compared] or [NOT_COMPARED]
    yield "\n".join(["## Compared", "", *(f"- {line}" for line in lines)])
    yield from calibration(student)
    yield from training(record)
    yield from limits(record, student)
    yield f"## Licence\n\n{LICENCE}"


def use(student: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the student is used, and what it takes where its model is the trainer's own: a file, or an object."""
    model, support = student["model"], "" if student.get("output", "logits") == "logits" else " --support FOLDER"
    flag = argument = ""
    if model is None:
        yield "It was trained from a network object, which no name can rebuild: NETWORK is the same, built again."
        argument = ", network=NETWORK"
    elif is_file_name(model):
        yield (
            f"Its model is {plain(public(model))}, a Python file that is not among these: the one of training must "
            "be in the working folder, and is run only if you trust it."
        )
        flag, argument = " --trust_code true", ", trust_code=True"
    if model is not None:
        yield f"```bash\nclassmates predict hf:{REPOSITORY} IMAGES{support}{flag}\n```"
    yield f'```python\nimport classmates\n\nnetwork, card = classmates.load_student("hf:{REPOSITORY}"{argument})\n```'


def scores_of(record: RunRecord, *, compared: bool) -> Iterator[str]:
    """Yield the scores of the student and of the other networks, and how they came about."""
    split, scores = judged(record)
    if not scores:
        yield (
            "## Scores\n\nNot judged: the run had no validation images, and its test images were not looked at. "
            "`classmates evaluate RUN` scores it."
        )
        return
    rows = [
        f"| {plain(how.name)} | {shown(scores[name].value, how)} | {interval(scores[name], how)} | {how.better} |"
        for name, how in record.protocol.metrics.items()
        if name in scores
    ]
    head = ["## Scores", "", f"| on {split} {record.protocol.counted} | value | 95 % interval | better is |"]
    yield "\n".join([*head, "|---|---|---|---|", *rows])
    headline, counted = scores.get(record.protocol.headline), record.protocol.counted
    count = f"{headline.count:,} {counted}" if headline and headline.count else counted
    looked = "They were looked at once, after the last epoch" if split == "test" else "Test images were not looked at"
    if split != "test" and compared:
        looked = "What it scored on test images, looked at after it was chosen, stands under Compared"
    yield (
        f"Judged by {plain(record.protocol.name)} on {count}. {looked}; the weights are those of "
        f"{KEPT[record.kept]}. One run with seed {record.seed}: intervals are those of the {counted} alone, and say "
        "nothing of other seeds. "
        f"{plain(record.protocol.caution)}"
    ).rstrip()
    main, name = record.protocol.main, record.protocol.headline
    others = [f"| {who} | {shown(of[name].value, main)} |" for who, of in record.test.items() if who != "student"]
    if others:
        yield "\n".join([f"| trained beside it | {plain(main.name)} |", "|---|---|", *others])


def calibration(student: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is done so that probabilities mean what they say."""
    if student.get("output", "logits") != "logits":
        return
    temperature = student.get("temperature")
    calibrated = (
        ""
        if temperature is None
        else f"; with `--calibrated` (in Python `calibrated=True`) of the logits divided by {temperature:.3g}, as "
        "fitted on validation images"
    )
    yield f"## Calibration\n\nProbabilities are the softmax of the logits as they are{calibrated}."


def training(record: RunRecord) -> Iterator[str]:
    """Yield how it was trained."""
    spec = record.config.get("method", {})
    options = flat(spec.get("init_args", {})) if isinstance(spec, Mapping) else {}
    settings = {name: record.config[name] for name in SHOWN_SETTINGS if record.config.get(name) is not None}
    rows = [f"| {plain(name)} | {plain(public(value))} |" for name, value in {**settings, **options}.items()]
    epochs = record.training.epochs
    cost = f"{epochs} epoch{'' if epochs == 1 else 's'}, {duration(record.training.seconds)}"
    yield f"## Training\n\n{record.train_images:,} images of {plain(record.data)}, {cost}."
    yield "\n".join(["| setting | value |", "|---|---|", *rows])
    notes = [f"- {plain(public(note, folders_of(record.config)))}" for note in record.notes]
    yield from ["\n".join(notes)] if notes else []


def limits(record: RunRecord, student: Mapping[str, Any]) -> Iterator[str]:
    """Yield what it cannot do."""
    names = [plain(name) for name in student["class_names"]]
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    channels, height, width = student["input_shape"]
    known = f"It learnt from {len(names)} classes ({', '.join(names[:SHOWN_CLASSES])}{more})"
    only = (
        "; an image of anything else is still given one of them"
        if student.get("output", "logits") == "logits"
        else ""
    )
    images = f"images of {height}x{width} pixels and {channels} channel{'s' if channels > 1 else ''}"
    yield f"## Limits\n\n{known}{only}. It takes {images}, and was judged on {plain(record.data)} alone."


def public(value: Any, known: Sequence[str] = ()) -> Any:
    """Return a value without the folders of whoever trained it: of full paths their last parts.

    known: folders that may be named in texts, where one with a space in its name does not end at it.
    """
    if isinstance(value, Mapping):
        return {name: public(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [public(part) for part in value]
    if not isinstance(value, str):
        return value
    if Path(value).is_absolute():
        return Path(value).name
    for folder in sorted(known, key=len, reverse=True):
        value = re.sub(rf"{BEGINS}{re.escape(folder)}/", "", value)
        value = re.sub(rf"{BEGINS}{re.escape(folder)}(?!\w)", Path(folder).name.replace("\\", r"\\"), value)
    return FOLDERS.sub("", value)


def folders_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the full paths among a run's settings, and the home folder."""
    given = [str(settings.get(name) or "") for name in ("data", "data_dir", "out", "model_weights")]
    paths = [str(Path(path).expanduser()) for path in (*given, "~") if path]
    return [path for path in paths if Path(path).is_absolute() and Path(path).name]


def plain(text: object) -> str:
    """Return a text that Markdown and HTML show as it is, in one line."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.").lower() or "data"


def without_stop(text: str) -> str:
    return text.rstrip(". ")
