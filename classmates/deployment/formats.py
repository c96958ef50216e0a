"""The formats that a student is written in, and what runs each: written to a file, then opened from that file."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.runs.student import StudentCard, load_weights, save_weights

if TYPE_CHECKING:
    import onnx

Runner = Callable[[Tensor], Tensor]
"""Something that gives logits or embeddings [B, ...] of images [B, C, H, W]."""


@dataclass(frozen=True, eq=False)
class Source:
    """A network to write.

    network: from images [B, C, H, W] to what the card says, in eval mode. metadata: texts that go into the file
    beside the card. dynamic_batch: whether the file is to take batches of any size, and not of 1 only. calibration:
    makes batches of prepared training images, for formats that need to see some.
    """

    network: nn.Module
    card: StudentCard
    metadata: Mapping[str, str] = field(default_factory=dict)
    dynamic_batch: bool = True
    calibration: Callable[[], Iterable[Tensor]] | None = None


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        name: what it is in a sentence.
        suffixes: of its files, the main one first.
        write: writes a source to files of these suffixes.
        open: opens them, for a source and so many threads, as a runner; None: as many threads as the runtime likes.
        needs: the packages without which it can be neither written nor run.
        extra: of this package, which brings them.
        tag: what is put after "student" in the file's name.
        sets_threads: whether the number of threads can be said.
        single: whether it takes one image at a time, whatever the source says.
    """

    name: str
    suffixes: tuple[str, ...]
    write: Callable[[Sequence[Path], Source], None]
    open: Callable[[Sequence[Path], Source, int | None], Runner]
    needs: tuple[str, ...] = ()
    extra: str = ""
    tag: str = ""
    sets_threads: bool = True
    single: bool = False

    @property
    def missing(self) -> list[str]:
        """The packages it needs that are not installed."""
        return [package for package in self.needs if find_spec(package) is None]


def write_safetensors(paths: Sequence[Path], source: Source) -> None:
    save_weights(paths[0], source.network, source.card, source.metadata)


def open_safetensors(paths: Sequence[Path], source: Source, threads: int | None) -> Runner:
    reloaded = copy.deepcopy(source.network)
    load_weights(paths[0], reloaded)
    return reloaded


def traced(network: nn.Module, source: Source) -> torch.export.ExportedProgram:
    """Return a network as torch.export has it."""
    shape = source.card.input_shape
    # Not strict, as newer PyTorch has it by default: 2.7 refuses the exits' hooks otherwise.
    if not source.dynamic_batch:
        return torch.export.export(network, (torch.zeros(1, *shape),), strict=False)
    # Two images: torch.export would take a batch of one for a constant.
    batch = torch.export.Dim("batch")
    return torch.export.export(network, (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},), strict=False)


def write_torch(paths: Sequence[Path], source: Source) -> None:
    files = {"classmates": source.card.to_json(), **source.metadata}
    torch.export.save(traced(source.network, source), paths[0], extra_files=files)


def open_torch(paths: Sequence[Path], source: Source, threads: int | None) -> Runner:
    return torch.export.load(paths[0]).module()


def onnx_model(network: nn.Module, source: Source) -> onnx.ModelProto:
    """Return a network as ONNX: ``images`` in, what the card says out, the card in the metadata."""
    program = torch.onnx.export(
        traced(network, source),
        dynamo=True,
        input_names=["images"],
        output_names=[source.card.output],
        verbose=False,
    )
    assert program is not None  # None is what the old, non-dynamo exporter returns
    return program.model_proto


def save_onnx(model: onnx.ModelProto, path: Path, source: Source) -> None:
    """Write an ONNX model with the card as one file, so that it can be moved as one."""
    import onnx

    card = source.card
    own = {name: json.dumps(getattr(card, name)) for name in ("class_names", "mean", "std")}
    onnx.helper.set_model_props(model, {"classmates": card.to_json(), **own, **source.metadata})
    onnx.save(model, path)


def write_onnx(paths: Sequence[Path], source: Source) -> None:
    save_onnx(onnx_model(source.network, source), paths[0], source)


class Half(nn.Module):
    """A network that computes in float16; images and outputs stay float32."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.half()).float()


def write_onnx_float16(paths: Sequence[Path], source: Source) -> None:
    save_onnx(onnx_model(Half(source.network), source), paths[0], source)


def write_onnx_int8(paths: Sequence[Path], source: Source) -> None:
    """Write weights and activations as 8-bit integers (static quantisation, QDQ), by onnxruntime's own tool.

    Weights a channel at a time and in 7 of the 8 bits: processors without VNNI instructions add up products of two
    full 8-bit numbers in 16 bits, which overflow.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    assert source.calibration is not None  # whoever writes it has training images
    with TemporaryDirectory() as folder, quiet():
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        onnx.save(onnx_model(source.network, source), plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            calibration_reader(source.calibration()),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        save_onnx(onnx.load(quantised), paths[0], source)


def calibration_reader(batches: Iterable[Tensor]) -> Any:
    """Return batches of images [B, C, H, W] as onnxruntime's quantisation reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {"images": images.numpy()}

    return Reader()


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what tools say of their own steps through Python's logging."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def onnx_session(path: Path | bytes, threads: int | None) -> Any:
    """Open an ONNX model on the CPU, with so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors: warnings are about the machine and the exporter's style
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def open_onnx(paths: Sequence[Path], source: Source, threads: int | None) -> Runner:
    session = onnx_session(paths[0], threads)
    return lambda images: torch.from_numpy(session.run([source.card.output], {"images": images.numpy()})[0])


def write_openvino(paths: Sequence[Path], source: Source) -> None:
    import openvino

    model = openvino.convert_model(traced(source.network, source))
    model.inputs[0].set_names({"images"})
    model.outputs[0].set_names({source.card.output})
    for name, text in {"classmates": source.card.to_json(), **source.metadata}.items():
        model.set_rt_info(text, name)
    openvino.serialize(model, *map(str, paths))


def open_openvino(paths: Sequence[Path], source: Source, threads: int | None) -> Runner:
    import openvino

    core = openvino.Core()
    # In float32 also where the processor has shorter numbers: the format says what it computes in.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(core.read_model(*map(str, paths)), "CPU", settings)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0].copy())


def write_executorch(paths: Sequence[Path], source: Source) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with quiet():  # one image at a time: the program's memory is planned beforehand
        program = traced(source.network, replace(source, dynamic_batch=False))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    paths[0].write_bytes(lowered.buffer)


def open_executorch(paths: Sequence[Path], source: Source, threads: int | None) -> Runner:
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(paths[0]).load_method("forward")
    return lambda images: method.execute([images.contiguous()])[0].clone()


ONNX = ("onnx", "onnxruntime", "onnxscript")
FORMATS = {
    "safetensors": Format("the weights alone", (".safetensors",), write_safetensors, open_safetensors),
    "onnx": Format("ONNX, float32", (".onnx",), write_onnx, open_onnx, ONNX, "onnx"),
    "onnx-float16": Format("ONNX, float16", (".onnx",), write_onnx_float16, open_onnx, ONNX, "onnx", "-float16"),
    "onnx-int8": Format("ONNX, int8", (".onnx",), write_onnx_int8, open_onnx, ONNX, "onnx", "-int8"),
    "torch": Format("torch.export", (".pt2",), write_torch, open_torch),
    "openvino": Format("OpenVINO", (".xml", ".bin"), write_openvino, open_openvino, ("openvino",), "openvino"),
    "executorch": Format(
        "ExecuTorch with XNNPACK",
        (".pte",),
        write_executorch,
        open_executorch,
        ("executorch",),
        "executorch",
        sets_threads=False,
        single=True,
    ),
}
"""By name, in the order of tables."""

MEASURED = tuple(name for name in FORMATS if name != "safetensors")
"""The formats that something else than PyTorch's own modules runs, which ``export --formats all`` writes."""


def require(name: str) -> Format:
    """Return a format whose packages are there; UserError naming the extra that brings them."""
    found = FORMATS[name]
    if found.missing:
        raise UserError(
            f"{found.name} needs packages that are not installed ({', '.join(found.missing)}): pip install "
            f"'classmates[{found.extra}]'"
        )
    return found
