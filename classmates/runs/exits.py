"""The exits of a trained student on disk, ``exits.safetensors``: what it takes to answer early."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from classmates._files import whole_file
from classmates._names import utf8_path
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.building.weights import load_matching
from classmates.networks.heads.exits import Attention, EarlyExit, MultiExit, ShallowExits, is_exact
from classmates.runs.hub import from_anywhere
from classmates.runs.student import DAMAGED, StudentCard, load_student

EXITS = "exits.safetensors"
KEY = "exits"
"""The name of the metadata that say where the exits are."""


def save_exits(folder: Path, exits: MultiExit) -> None:
    """Write the weights of the exits, and in the metadata at which of the student's stages they are."""
    where = {
        "stages": [stage.name for stage in exits.architecture.stages],
        "depths": len(exits.shallow) + 1,
        "attention": any(isinstance(module, Attention) for module in exits.shallow.modules()),
    }
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in exits.shallow.state_dict().items()}
    with whole_file(folder / EXITS) as path:
        path.write_bytes(safetensors.torch.save(tensors, {"format": "pt", KEY: json.dumps(where)}))


def load_exits(
    run: str | Path, network: nn.Module | None = None, *, trust_code: bool = False
) -> tuple[MultiExit, StudentCard]:
    """Load the student of a finished run with its exits, in eval mode; arguments as of ``load_student``.

    Raises:
        UserError: as ``load_student``; or the run has no exits, or their file is damaged or another student's.
    """
    student, card = load_student(run, network, trust_code=trust_code)
    path = Path(run) / EXITS
    if not path.is_file():
        raise UserError(
            f"the student in '{run}' has no early exits ({EXITS} is missing): train it with --method SD or "
            "DeepSupervision; runs of earlier versions did not keep them"
        )
    try:
        with utf8_path(path) as readable, safe_open(readable, "pt") as file:
            where = json.loads(file.metadata()[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        student.stage_names = where["stages"]
        architecture = inspect_network(student, card.input_shape)
        shallow = ShallowExits(architecture, where["depths"], attention=where["attention"])
    except (SafetensorError, *DAMAGED) as error:
        raise UserError(f"'{path}' is damaged or no file of this student's exits: {error}") from error
    load_matching(shallow, tensors, str(path))
    return MultiExit(student, architecture, shallow).eval(), card


def early_exit(exits: MultiExit, thresholds: Sequence[float]) -> EarlyExit:
    """Return the network that answers early, each image for itself where the network allows it."""
    images = torch.randn(4, *exits.architecture.input_shape, generator=torch.Generator().manual_seed(0))
    return EarlyExit(exits, thresholds, per_image=is_exact(exits, images)).eval()


@from_anywhere
def load_early_exit(
    run: str | Path, network: nn.Module | None = None, *, trust_code: bool = False
) -> tuple[EarlyExit, StudentCard]:
    """Load the student of a finished run as a network that answers early, by the thresholds in its card.

    Raises:
        UserError: as ``load_exits``; or the card has no thresholds.
    """
    exits, card = load_exits(run, network, trust_code=trust_code)
    if card.exit_thresholds is None:
        command = f"classmates export {shlex.quote(str(run))} --what early_exit"
        raise UserError(
            f"the exits in '{run}' have no thresholds yet: `{command}` tunes them on validation images and measures "
            "what they save"
        )
    return early_exit(exits, card.exit_thresholds), card
