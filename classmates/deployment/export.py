"""The student for other programs: ONNX, torch.export or safetensors, compared with the original before it is kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from classmates._files import output_file
from classmates.deployment.preparation import add_preparation
from classmates.errors import UserError, check_choice, first_line
from classmates.runs.prototypes import load_prototypes
from classmates.runs.student import StudentCard, load_embedder, load_student, load_weights, save_weights

Runner = Callable[[Tensor], Tensor]


def export(
    run: str | Path,
    *,
    format: Literal["safetensors", "onnx", "torch"] = "onnx",
    what: Literal["student", "embedding"] = "student",
    prototypes: Path | None = None,
    out: Path | None = None,
    dynamic_batch: bool = True,
    tolerance: float = 1e-4,
    preprocessing: bool = False,
    network: nn.Module | None = None,
    trust_code: bool = False,
) -> Path:
    """Write a finished run's student in a format that other programs read.

    The file takes float32 images [B, C, H, W], already resized and normalised by the run's mean and std, and gives
    logits [B, K]: no softmax is included. How images are resized the card says, step by step (``preparation``). With
    ``preprocessing`` an ONNX file does all that itself, to ``pixels`` [B, H, W, C] in uint8: RGB or grey images,
    upright, of any size, one size in a batch. The student's card (class names, input shape, mean, std, ...) goes with
    it as JSON under the key ``classmates``: metadata in ONNX and safetensors, an extra file in torch.export. ONNX has
    ``class_names``, ``mean`` and ``std`` under keys of their own too.

    With ``what="embedding"``, and for a student of few-shot learning always, it gives embeddings [B, D]. Prototypes
    go with them as JSON under the key ``prototypes``: ``centres``, ``class_names``, ``distance``, ``scale`` and
    ``reach``, as of ``classmates.runs.prototypes.Prototypes``.

    Before the file is kept what it gives is compared, on random images, with those of the student in PyTorch; the
    largest difference is printed, as a share of the largest value where that is above 1.

    Args:
        run: the run's folder.
        what: the student as it is, or what its classifier is given.
        prototypes: a file of ``predict --save_prototypes`` to go with the embedding.
        format: onnx (any ONNX runtime; needs ``pip install 'classmates[onnx]'``), torch (a .pt2 file for
            ``torch.export.load``), or safetensors (the weights alone).
        out: the file to write; by default student (or embedding) .onnx, .pt2 or .safetensors in the run's folder.
        dynamic_batch: let the file take batches of any size (checked with 1 and 5 images) and not of 1 only.
            Safetensors holds no batch size.
        tolerance: the largest difference that is accepted, as a share of the largest value where that is above 1.
        preprocessing: let an ONNX file prepare the images itself. Its pixels are compared with those of ``predict``,
            on images of several sizes; none may differ by more than 2 of 255.
        network: where to load the weights, for a student that was given to training as an object (in Python).
        trust_code: run the Python file of a student whose model is one (FILE.py:CLASS).

    Returns:
        The file written.

    Raises:
        UserError: no student in the folder, ``out`` with another suffix, ONNX not installed, a network that the
            format cannot express, prototypes of another student or without the embedding, or a difference above the
            tolerance. Nothing is left behind.
    """
    if format not in FORMATS:
        raise UserError(f"format is '{format}'; choose one of {', '.join(FORMATS)}")
    check_choice("what", what, ("student", "embedding"))
    suffix, write = FORMATS[format].suffix, FORMATS[format].write
    out = Path(run) / f"{what}{suffix}" if out is None else Path(out)
    if out.suffix != suffix:
        raise UserError(
            f"out is '{out}', but format {format} is written to a {suffix} file: use '{out.with_suffix(suffix)}'"
        )
    if preprocessing and format != "onnx":
        raise UserError(
            f"preprocessing can be part of an ONNX file, not of {format}: leave it out, or say --format onnx"
        )
    student, card = load_student(run, network, trust_code=trust_code)
    load = load_student if what == "student" else load_embedder
    student, card = load(run, network, trust_code=trust_code)
    more = {} if prototypes is None else _with_prototypes(prototypes, run, card)
    sizes = (1, 5) if dynamic_batch else (1,)
    values = "logits" if card.output == "logits" else "embeddings"
    with output_file(out) as path:
        try:
            runner = write(path, student, card, dynamic_batch, more)
            difference = _largest_difference(student, runner, card, sizes)
        except UserError:
            raise
        except Exception as error:  # exporters and runtimes raise what they like
            hint = " (dynamic_batch=False asks less of it)" if dynamic_batch else ""
            raise UserError(f"the student cannot be exported as {format}{hint}: {first_line(error)}") from error
        if not difference <= tolerance:  # also true of NaN
            raise UserError(
                f"the {format} file's {values} differ from the student's by {difference:.2e}, more than the "
                f"tolerance {tolerance:.2e}: the file was not kept; set a larger tolerance to accept it"
            )
        if preprocessing:
            off_by = add_preparation(path, card)
            print(f"{out}: pixels that it prepares differ from the student's by at most {off_by} of 255")
    batches = " and ".join(str(size) for size in sizes)
    told = f"{values} differ from the student's by at most {difference:.1e}"
    print(f"{out}: {told} (batches of {batches} random images)")
    return out


def _with_prototypes(path: Path, run: str | Path, card: StudentCard) -> dict[str, str]:
    """Return the metadata that prototypes add to the card's."""
    if card.output != "embedding":
        raise UserError(f"prototypes is '{path}', but the file would give logits: say --what embedding")
    found = load_prototypes(path, run)
    return {"prototypes": found.to_json(), "class_names": json.dumps(found.class_names)}


@torch.no_grad()
def _largest_difference(student: nn.Module, runner: Runner, card: StudentCard, sizes: tuple[int, ...]) -> float:
    random = torch.Generator().manual_seed(0)
    differences = []
    for size in sizes:
        images = torch.randn(size, *card.input_shape, generator=random)
        outputs = student(images)
        differences.append((outputs - runner(images)).abs().max() / outputs.abs().max().clamp(min=1))
    return float(torch.stack(differences).max())


def _write_safetensors(
    path: Path, student: nn.Module, card: StudentCard, dynamic_batch: bool, more: Mapping[str, str]
) -> Runner:
    save_weights(path, student, card, more)
    reloaded = copy.deepcopy(student)
    load_weights(path, reloaded)
    return reloaded


def _write_torch(
    path: Path, student: nn.Module, card: StudentCard, dynamic_batch: bool, more: Mapping[str, str]
) -> Runner:
    files = {"classmates": card.to_json(), **more}
    torch.export.save(_traced(student, card, dynamic_batch), path, extra_files=files)
    return torch.export.load(path).module()


def _write_onnx(
    path: Path, student: nn.Module, card: StudentCard, dynamic_batch: bool, more: Mapping[str, str]
) -> Runner:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch.onnx needs it)
    except ImportError as error:
        raise UserError(
            f"ONNX needs packages that are not installed ({error}): pip install 'classmates[onnx]'"
        ) from error
    program = torch.onnx.export(
        _traced(student, card, dynamic_batch),
        dynamo=True,
        input_names=["images"],
        output_names=[card.output],
        verbose=False,
    )
    assert program is not None  # None is what the old, non-dynamo exporter returns
    own = {name: json.dumps(getattr(card, name)) for name in ("class_names", "mean", "std")}
    program.model.metadata_props.update({"classmates": card.to_json(), **own, **more})
    program.save(path, external_data=False)  # one file, so that it can be moved as one
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([card.output], {"images": images.numpy()})[0])


def _traced(student: nn.Module, card: StudentCard, dynamic_batch: bool) -> torch.export.ExportedProgram:
    if not dynamic_batch:
        return torch.export.export(student, (torch.zeros(1, *card.input_shape),))
    # Two images: torch.export would take a batch of one for a constant.
    example = torch.zeros(2, *card.input_shape)
    return torch.export.export(student, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


@dataclass(frozen=True)
class Format:
    suffix: str
    write: Callable[[Path, nn.Module, StudentCard, bool, Mapping[str, str]], Runner]
    """Writes the file (path, student, card, dynamic_batch, more metadata), and gives what runs it, read from disk."""


FORMATS = {
    "safetensors": Format(".safetensors", _write_safetensors),
    "onnx": Format(".onnx", _write_onnx),
    "torch": Format(".pt2", _write_torch),
}
