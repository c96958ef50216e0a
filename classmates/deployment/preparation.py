"""The preparation of images in an ONNX file itself: pixels of any size in, what the student was trained on out.

An image is resized by two products with matrices of weights, rows then columns, which need no more than the plainest
operators and are the same on every runtime; ONNX's own Resize treats the edges differently from Pillow and PyTorch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from classmates.data.parts import Interpolation
from classmates.data.resizing import LONGEST
from classmates.errors import UserError
from classmates.evaluation.reading import read
from classmates.runs.student import StudentCard

if TYPE_CHECKING:
    import onnx

INPUT = "pixels"
"""The name of the file's input: uint8 [B, H, W, C], RGB or grey, upright, all images of a batch of one size."""

PREFIX = "preparation/"
"""What comes before every other name of the preparation: a network's parameters may be called anything."""

TOLERANCE = 2
"""How far a pixel may be from what ``predict`` makes of the same image, in steps of 255."""

SIZES = ((40, 30), (333, 500), (701, 420), (90, 1200), (1, 300), (64, 64))
"""The (height, width) of the images on which the two are compared before a file is kept."""

OPSET = 18
FLOAT, INT64, DOUBLE = 1, 7, 11  # onnx.TensorProto's numbers of types

KERNELS = {
    "bilinear": """
  {a}_kernel_low = Sub (one, {a}_at)
  {a}_kernel = Max ({a}_kernel_low, zero)
""",
    "bicubic": """
  {a}_at2 = Mul ({a}_at, {a}_at)
  {a}_at3 = Mul ({a}_at2, {a}_at)
  {a}_near3 = Mul ({a}_at3, three_halves)
  {a}_both2 = Mul ({a}_at2, five_halves)
  {a}_near_rest = Sub ({a}_near3, {a}_both2)
  {a}_near = Add ({a}_near_rest, one)
  {a}_far3 = Mul ({a}_at3, half)
  {a}_far_rest = Sub ({a}_both2, {a}_far3)
  {a}_far1 = Mul ({a}_at, four)
  {a}_far_less = Sub ({a}_far_rest, {a}_far1)
  {a}_far = Add ({a}_far_less, two)
  {a}_is_near = Less ({a}_at, one)
  {a}_is_far = Less ({a}_at, two)
  {a}_or_far = Where ({a}_is_far, {a}_far, zero)
  {a}_kernel = Where ({a}_is_near, {a}_near, {a}_or_far)
""",
}
"""The weight of a pixel by its distance (``at``) from where an output pixel lies, in units of the filter's width."""


def add_preparation(path: Path, card: StudentCard) -> int:
    """Put the preparation that a card describes in front of the network in an ONNX file.

    Returns:
        The largest difference between its pixels and those of ``predict``, in steps of 255.

    Raises:
        UserError: that is above ``TOLERANCE``, or the images are neither grey nor in colour.
    """
    import onnx
    from onnx import compose, helper

    if card.input_shape[0] not in (1, 3):
        raise UserError(f"the student takes images of {card.input_shape[0]} channels, which no pixels of a file have")
    difference = largest_difference(preparation(card, normalised=False), card)
    if difference > TOLERANCE:
        raise UserError(
            f"pixels that ONNX prepares differ from the student's by {difference} of 255, more than {TOLERANCE}: "
            "leave out --preprocessing, and prepare images as student.json says"
        )
    network, front = onnx.load(path), preparation(card, normalised=True)
    front.ir_version = network.ir_version
    for own, other in ((front.opset_import, entry) for entry in network.opset_import if entry.domain == ""):
        own[0].CopyFrom(other)
    rename(front.graph)
    merged = compose.merge_models(front, network, io_map=[(f"{PREFIX}prepared", network.graph.input[0].name)])
    helper.set_model_props(merged, {entry.key: entry.value for entry in network.metadata_props})
    onnx.save(merged, path)
    return difference


def rename(graph: onnx.GraphProto) -> None:
    """Put ``PREFIX`` before every name in the graph but those of its inputs: a network may have the same ones.

    ``onnx.compose.add_prefix`` of older versions renames the inputs too, whatever it is told.
    """
    inputs = {entry.name for entry in graph.input}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name if name in inputs or not name else PREFIX + name for name in names]
    for entry in (*graph.initializer, *graph.output, *graph.value_info):
        entry.name = PREFIX + entry.name


def largest_difference(model: onnx.ModelProto, card: StudentCard) -> int:
    """Return how far pixels prepared by a model are from those of ``predict``, in steps of 255."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    worst = 0.0
    for height, width in SIZES:
        pixels = random.integers(0, 256, (height, width, card.input_shape[0]), dtype=np.uint8)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        (found,) = session.run(["prepared"], {INPUT: pixels[None]})
        worst = max(worst, float(np.abs(found[0].transpose(1, 2, 0) - read(image, card).numpy()).max()))
    return round(worst)


def preparation(card: StudentCard, *, normalised: bool) -> onnx.ModelProto:
    """Return the model from ``pixels`` to ``prepared``, float32 [B, C, H, W]; values in 0..255 unless normalised."""
    from onnx import numpy_helper, parser

    channels, height, width = card.input_shape
    text = f"""<ir_version: 9, opset_import: ["" : {OPSET}]>
preparation (uint8[B, H, W, {channels}] {INPUT}) => (float[B, {channels}, {height}, {width}] prepared) {{
  images = Transpose <perm = [0, 3, 1, 2]> ({INPUT})
  given = Shape <start = 2, end = 4> (images)
  given_shorter = ReduceMin <keepdims = 0> (given)
  far = Mul (given_shorter, farthest)
  longest = Div (far, least)
  kept = Min (given, longest)
  {_middle("kept_start", "given", "kept")}
  kept_end = Add (kept_start, kept)
  near = Slice (images, kept_start, kept_end, axes)
  values = Cast <to = {FLOAT}> (near)
  {_scaled_exactly if isinstance(card.resize, int) else _scaled_to_fill}
  {_middle("crop_start", "scaled", "crop")}
  kept_float = Cast <to = {DOUBLE}> (kept)
  scaled_float = Cast <to = {DOUBLE}> (scaled)
  steps = Div (kept_float, scaled_float)
  widths = Max (steps, one)
  start_float = Cast <to = {DOUBLE}> (crop_start)
  {_weights("rows", 0, card.interpolation)}
  {_weights("columns", 1, card.interpolation)}
  columns_turned = Transpose <perm = [1, 0]> (columns)
  across = MatMul (values, columns_turned)
  {_whole("crossed", "across")}
  down = MatMul (rows, crossed)
  {_whole("resized", "down")}
  scaled_values = Mul (resized, factor)
  prepared = Sub (scaled_values, shift)
}}"""
    model = parser.parse_model(text)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in _constants(card, normalised).items()
        if re.search(rf"\b{name}\b", text)
    )
    return model


def _constants(card: StudentCard, normalised: bool) -> dict[str, np.ndarray]:
    _, height, width = card.input_shape
    mean, std = (np.array(values, dtype=np.float64).reshape(1, -1, 1, 1) for values in (card.mean, card.std))
    factor, shift = (1 / (255 * std), mean / std) if normalised else (np.ones_like(std), np.zeros_like(std))
    numbers = {"zero": 0, "half": 0.5, "one": 1, "three_halves": 1.5, "two": 2, "five_halves": 2.5, "four": 4}
    return {
        **{name: np.array(value, dtype=np.float64) for name, value in numbers.items()},
        "black": np.array(0, dtype=np.float32),
        "white": np.array(255, dtype=np.float32),
        "first": np.array(0),
        "next": np.array(1),
        "axes": np.array([2, 3]),
        "last_axis": np.array([1]),
        "crop": np.array([height, width]),
        "farthest": np.array(LONGEST * max(height, width)),
        "least": np.array(min(height, width)),
        "shorter": np.array(card.resize if isinstance(card.resize, int) else 0),
        "factor": factor.astype(np.float32),
        "shift": shift.astype(np.float32),
    }


def _middle(start: str, whole: str, part: str) -> str:
    """Return the steps to where the middle of so many pixels begins, as torchvision's ``center_crop`` rounds it."""
    return f"""
  {start}_rest = Sub ({whole}, {part})
  {start}_float = Cast <to = {DOUBLE}> ({start}_rest)
  {start}_half = Mul ({start}_float, half)
  {start}_whole = Round ({start}_half)
  {start} = Cast <to = {INT64}> ({start}_whole)"""


_scaled_exactly = """
  kept_shorter = ReduceMin <keepdims = 0> (kept)
  times = Mul (kept, shorter)
  scaled = Div (times, kept_shorter)"""

_scaled_to_fill = f"""
  kept_double = Cast <to = {DOUBLE}> (kept)
  crop_double = Cast <to = {DOUBLE}> (crop)
  ratios = Div (crop_double, kept_double)
  ratio = ReduceMax <keepdims = 0> (ratios)
  enlarged = Mul (kept_double, ratio)
  enlarged_whole = Round (enlarged)
  enlarged_integer = Cast <to = {INT64}> (enlarged_whole)
  scaled = Max (enlarged_integer, crop)"""


def _weights(name: str, axis: int, interpolation: Interpolation) -> str:
    """Return the steps to the weights [output, input] of the pixels on an axis (0: rows), of those in the crop."""
    one = {each: f"{name}_{each}" for each in ("axis", "count", "length", "step", "width", "start")}
    picked = "".join(
        f"\n  {one[each]} = Gather <axis = 0> ({source}, {name}_axis)"
        for each, source in {
            "count": "crop",
            "length": "kept",
            "step": "steps",
            "width": "widths",
            "start": "start_float",
        }.items()
    )
    return f"""
  {name}_axis = Constant <value = int64 {{{axis}}}> (){picked}
  {name}_outputs = Range (first, {name}_count, next)
  {name}_outputs_float = Cast <to = {DOUBLE}> ({name}_outputs)
  {name}_from_start = Add ({name}_outputs_float, {name}_start)
  {name}_centred = Add ({name}_from_start, half)
  {name}_centres_row = Mul ({name}_centred, {name}_step)
  {name}_centres = Unsqueeze ({name}_centres_row, last_axis)
  {name}_inputs = Range (first, {name}_length, next)
  {name}_inputs_float = Cast <to = {DOUBLE}> ({name}_inputs)
  {name}_places = Add ({name}_inputs_float, half)
  {name}_away = Sub ({name}_places, {name}_centres)
  {name}_apart = Abs ({name}_away)
  {name}_at = Div ({name}_apart, {name}_width)
  {KERNELS[interpolation].format(a=name)}
  {name}_sum = ReduceSum <keepdims = 1> ({name}_kernel, last_axis)
  {name}_double = Div ({name}_kernel, {name}_sum)
  {name} = Cast <to = {FLOAT}> ({name}_double)"""


def _whole(name: str, values: str) -> str:
    """Return the steps to whole numbers in 0..255, to which Pillow and torchvision round after either pass."""
    return f"""
  {name}_round = Round ({values})
  {name} = Clip ({name}_round, black, white)"""
