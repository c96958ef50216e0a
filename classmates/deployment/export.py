"""The student for other programs: in one format or in several, compared with the original before a file is kept."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from classmates._files import output_file, require_writable
from classmates._progress import note
from classmates.deployment.early_exit import EarlyExits, export_early_exit
from classmates.deployment.exports_table import Exports
from classmates.deployment.formats import FORMATS, Runner, Source, require
from classmates.deployment.measured import Request, export_measured, formats_of
from classmates.deployment.measuring import BATCH, Images
from classmates.deployment.preparation import add_preparation
from classmates.errors import UserError, check_choice, first_line
from classmates.evaluation.networks import load_for_answers
from classmates.runs.exits import load_exits
from classmates.runs.hub import is_on_hub, local_run
from classmates.runs.prototypes import load_prototypes
from classmates.runs.student import StudentCard, load_embedder, load_student

What = Literal["student", "embedding", "early_exit"]
PLAIN = ("safetensors", "onnx", "torch")
"""The formats that are compared on random images alone: they give what the student gives but for rounding."""
UNUSED = {
    "one format": ("data", "data_dir", "threads", "calibration_images", "most_lost"),
    "formats": ("format", "preprocessing", "tolerance"),
    "formats without onnx-int8": ("calibration_images",),
    "what early_exit": (
        *("format", "formats", "prototypes", "calibrated", "preprocessing"),
        *("dynamic_batch", "tolerance", "calibration_images", "most_lost"),
    ),
}
"""The arguments of ``export`` that mean nothing to each way of writing."""
INSTEAD = {
    ("formats", "preprocessing"): "leave out --formats for one ONNX file that takes pixels as they are (--format "
    "onnx --preprocessing true), or --preprocessing for measures of files that take prepared images"
}
"""What to do where more than leaving the argument out can be meant."""


def export(
    run: str | Path,
    *,
    format: Literal["safetensors", "onnx", "torch"] = "onnx",
    formats: Sequence[str] | None = None,
    what: What = "student",
    prototypes: Path | None = None,
    calibrated: bool = False,
    out: Path | None = None,
    dynamic_batch: bool = True,
    tolerance: float = 1e-4,
    preprocessing: bool = False,
    data: str | Path | Dataset[Any] | None = None,
    data_dir: str | Path | None = None,
    threads: int = 1,
    calibration_images: int = 512,
    most_lost: float = 0.05,
    network: nn.Module | None = None,
    trust_code: bool = False,
) -> Path | Exports | EarlyExits:
    """Write a finished run's student in formats that other programs read.

    A file takes float32 images [B, C, H, W], already resized and normalised by the run's mean and std, and gives
    logits [B, K]: no softmax is included. How images are resized the card says, step by step, as "preparation". With
    ``preprocessing`` an ONNX file does all that itself: it takes pixels [B, H, W, C] in uint8 of RGB or grey images,
    upright, of any size, one size in a batch. The student's card (class names, input shape, mean, std, ...) goes with
    it as JSON under the key "classmates": metadata in ONNX, safetensors and OpenVINO ("rt_info"), an extra file in
    torch.export; ExecuTorch has no place for it. ONNX has the names of classes, mean and std under keys of their own
    too ("class_names", "mean", "std").

    Each file of ``formats`` is run on the run's test images before it is kept, and a table says what it scores, how
    it differs from the student, its size and how long it takes on this machine; it is written to ``exports.csv`` and
    into the student's card. Of one ``format`` what the file gives is compared, on random images, with the student in
    PyTorch; the largest difference is printed, as a share of the largest value where that is above 1.

    With ``what="embedding"``, and for a student of few-shot learning always, a file gives embeddings [B, D]. New
    classes (``prototypes``) go with them as JSON under the key "prototypes": their names ("class_names"), the centre
    of each ("centres"), the kind of "distance" from it, the "scale" that makes it a probability, and the "reach" by
    which it is divided for an image's novelty.

    With ``what="early_exit"`` a student with exits (of SD or DeepSupervision) becomes an ONNX file that answers one
    image at a time at the first exit that is sure enough. The thresholds are tuned on validation images and go into
    the card; what they save is measured on the test images.

    Args:
        run: the run's folder, or hf:OWNER/NAME of the Hub; then ``out`` says where to write.
        format: onnx (any ONNX runtime; needs ``pip install 'classmates[onnx]'``), torch (a .pt2 file for
            ``torch.export.load``), or safetensors (the weights alone).
        formats: several formats, measured, or "all": onnx, onnx-float16, onnx-int8 (8-bit integers, by onnxruntime's
            static quantisation on training images), torch, openvino, executorch. Their files take prepared images.
        what: the student as it is, what its classifier is given, or the student with its early exits.
        prototypes: a file of ``predict --save_prototypes`` to go with the embedding.
        calibrated: divide logits by the temperature in the card (``evaluate --calibrated``).
        out: the file to write; by default student (or embedding) .onnx, .pt2 or .safetensors in the run's folder.
            With ``formats`` or ``what="early_exit"`` a folder, by default the run's.
        dynamic_batch: let the file take batches of any size (checked with 1 and 5 images) and not of 1 only.
            Safetensors holds no batch size.
        tolerance: the largest difference that is accepted, as a share of the largest value where that is above 1.
        preprocessing: let an ONNX file prepare the images itself; with ``format="onnx"``, not with ``formats``. Its
            pixels are compared with those that ``predict`` makes, on images of several sizes; none may differ by more
            than 2 of 255.
        data: with ``formats`` and ``what="early_exit"``, other data to take the test images from, as in ``evaluate``;
            those of the run if not given. Thresholds and the ranges of 8-bit integers are always of the run's own
            images.
        data_dir: where the files of a data set known by name are; as in training if not given.
        threads: that each runtime may use where it is timed.
        calibration_images: how many training images set the ranges of 8-bit integers.
        most_lost: with ``formats``, the share of accuracy that a file may lose on the test images; one that loses
            more is not kept.
        network: where to load the weights, for a student that was given to training as an object (in Python).
        trust_code: run the Python files that the run's folder names, of its model or its task (FILE.py:CLASS).

    Returns:
        The file written; with formats or early_exit the table of what was measured.

    Raises:
        UserError: no student in the folder, ``out`` with another suffix, ONNX not installed, a network that the
            format cannot express, prototypes of another student or without the embedding, a difference above the
            tolerance, no temperature in the card, no exits, or formats of an embedding where the run was judged by
            logits. Nothing is left behind.
    """
    given = locals()
    check_choice("what", what, What)
    for name, count in {"threads": threads, "calibration_images": calibration_images}.items():
        if count < 1:
            raise UserError(f"{name} is {count}; give 1 or more")
    if not 0 <= most_lost <= 1:
        raise UserError(f"most_lost is {most_lost}; give a share of accuracy from 0 to 1")
    way = "what early_exit" if what == "early_exit" else "one format" if formats is None else "formats"
    check_used(way, given)
    if out is None and is_on_hub(run):
        raise UserError(f"'{run}' is on the Hub: say where to write, with --out")
    run = local_run(run)
    if what == "early_exit":
        exits, card = load_exits(run, network, trust_code=trust_code)
        images = Images(Path(run), card, data, data_dir, trust_code=trust_code)
        folder = folder_for("early_exit.onnx", out or run)
        return export_early_exit(Path(run), exits, card, images, folder, threads)
    source = source_of(run, what, prototypes, calibrated, network, trust_code=trust_code)
    source = replace(source, dynamic_batch=dynamic_batch)
    if formats is None:
        if format not in PLAIN:
            more = f" (--formats {format} measures that one)" if format in FORMATS else ""
            raise UserError(f"format is '{format}'; choose one of {', '.join(PLAIN)}{more}")
        if calibrated and format == "safetensors":
            raise UserError("calibrated changes logits, and safetensors holds weights alone: leave it out")
        return export_file(source, format, out, Path(run) / what, tolerance, preprocessing)
    images = Images(Path(run), source.card, data, data_dir, trust_code=trust_code)
    if source.card.output != images.task.output:
        raise UserError(
            f"what is '{what}', but formats are judged as the run was, by {images.task.output}: write one with "
            "--format, or leave out --what"
        )
    source = replace(source, calibration=lambda: calibration(images, calibration_images, source.dynamic_batch))
    names = formats_of(formats)
    if "onnx-int8" not in names:
        check_used("formats without onnx-int8", given)
    request = Request(source, images, what, folder_for("exports.csv", out or run), threads, most_lost)
    return export_measured(Path(run), request, names)


def folder_for(file: str, folder: str | Path) -> Path:
    """Return the folder that several files go to; UserError where it is named as a file, or cannot be written to."""
    known = {suffix for form in FORMATS.values() for suffix in form.suffixes}
    if Path(folder).suffix in known:
        raise UserError(f"out is '{folder}', but several files are written: give a folder")
    require_writable(Path(folder) / file)
    return Path(folder)


def check_used(way: str, given: Mapping[str, Any]) -> None:
    """Raise UserError for the first argument that is given though it means nothing to this way of writing."""
    for name in UNUSED[way]:
        if given[name] != inspect.signature(export).parameters[name].default:
            raise UserError(f"{name} does not go with {way}: {INSTEAD.get((way, name), 'leave it out')}")


def source_of(
    run: str | Path,
    what: What,
    prototypes: Path | None,
    calibrated: bool,
    network: nn.Module | None,
    *,
    trust_code: bool,
) -> Source:
    """Load what is to be written; UserError as of ``export``."""
    if calibrated:
        if what != "student":
            raise UserError("calibrated divides logits, which an embedding is not: leave it out")
        return Source(*load_for_answers(run, network, calibrated=True, trust_code=trust_code))
    student, card = (load_student if what == "student" else load_embedder)(run, network, trust_code=trust_code)
    return Source(student, card, {} if prototypes is None else with_prototypes(prototypes, run, card))


def with_prototypes(path: Path, run: str | Path, card: StudentCard) -> dict[str, str]:
    """Return the metadata that prototypes add to the card's."""
    if card.output != "embedding":
        raise UserError(f"prototypes is '{path}', but the file would give logits: say --what embedding")
    found = load_prototypes(path, run)
    return {"prototypes": found.to_json(), "class_names": json.dumps(found.class_names)}


def calibration(images: Images, count: int, dynamic_batch: bool) -> Iterator[Tensor]:
    """Yield prepared training images for the ranges of 8-bit integers, drawn with a fixed seed."""
    return (batch for batch, _ in images.batches("train", BATCH if dynamic_batch else 1, count))


def export_file(
    source: Source, format: str, out: Path | None, stem: Path, tolerance: float, preprocessing: bool
) -> Path:
    """Write one format after a comparison on random images; arguments and errors as of ``export``.

    stem: what the file is called where nobody says, without its suffix.
    """
    suffix = FORMATS[format].suffixes[0]
    out = stem.with_suffix(suffix) if out is None else Path(out)
    if out.suffix != suffix:
        better = out.with_suffix(suffix) if out.name else out / f"{stem.name}{suffix}"
        raise UserError(f"out is '{out}', but format {format} is written to a {suffix} file: use '{better}'")
    if preprocessing and format != "onnx":
        raise UserError(
            f"preprocessing can be part of an ONNX file, not of {format}: leave it out, or say --format onnx"
        )
    form, sizes = require(format), (1, 5) if source.dynamic_batch else (1,)
    values = "logits" if source.card.output == "logits" else "embeddings"
    with output_file(out) as path:
        try:
            form.write([path], source)
            runner = form.open([path], source, None)
            difference = largest_difference(source.network, runner, source.card, sizes)
            if not difference <= tolerance:  # also true of NaN
                raise UserError(
                    f"the {format} file's {values} differ from the student's by {difference:.2e}, more than the "
                    f"tolerance {tolerance:.2e}: the file was not kept; set a larger tolerance to accept it"
                )
            if preprocessing:
                off_by = add_preparation(path, source.card)
                note(f"{out}: pixels that it prepares differ from the student's by at most {off_by} of 255")
        except UserError:
            raise
        except Exception as error:  # exporters and runtimes raise what they like
            hint = " (dynamic_batch=False asks less of it)" if source.dynamic_batch else ""
            raise UserError(f"the student cannot be exported as {format}{hint}: {first_line(error)}") from error
    batches = " and ".join(str(size) for size in sizes)
    told = f"{values} differ from the student's by at most {difference:.1e}"
    note(f"{out}: {told} (batches of {batches} random images)")
    return out


@torch.no_grad()
def largest_difference(student: nn.Module, runner: Runner, card: StudentCard, sizes: tuple[int, ...]) -> float:
    """Return how far a runner's answers are from the student's on random images, as a share of answers above 1."""
    random = torch.Generator().manual_seed(0)
    differences = []
    for size in sizes:
        images = torch.randn(size, *card.input_shape, generator=random)
        outputs = student(images)
        differences.append((outputs - runner(images)).abs().max() / outputs.abs().max().clamp(min=1))
    return float(torch.stack(differences).max())
