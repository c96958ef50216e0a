"""Train every method in 1 and 4 processes, a few steps each, and keep what each of them saw, computed and has.

``python -m tests.methods.ranks FOLDER`` writes FOLDER/RANKofSIZE.pt, a dict by case, of those that are named after
it or else of all. It imports once and forks: the processes of a size are one process group for all cases, and each
case is a call of ``train`` with strategy "ddp".
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.callbacks import Callback
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.transforms.functional import to_pil_image

from classmates._signals import end_with_parent
from classmates.contracts import Batch
from classmates.data.augmentation import Augmentation
from classmates.methods.spec import known_methods
from classmates.methods.teacher_method import TeacherMethod
from classmates.training.module import TrainingModule
from classmates.training.train import train
from tests.conftest import TinyNetwork

SIZES = (1, 4)
CLASSES = 4
BATCH = 96  # of 4 processes each has two groups of eight or more, and whole pairs and triplets
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "BAKE, mostly": ("BAKE", {"lam": 100.0, "omega": 0.9}),
    "CORSD, summed": ("CORSD", {"calibration_reduction": "sum", "sigma": 1.0}),
    "MCL, lagged": ("MCL", {"normaliser": "lagged"}),
    "MCL, sharded": ("MCL", {"bank": "sharded"}),
}
"""Options that add up over a batch in another way than the defaults do, or by which what looks at it weighs more."""
SETTINGS: dict[str, dict[str, Any]] = {
    "class weights": {"class_weights": "balanced"},
    "Mixup": {"augmentation": Augmentation(mixup=1.0)},
}
"""Settings of the whole run, with Baseline."""


class Images(torch.utils.data.Dataset[tuple[Image, int]]):
    """Noise, 192 images of it for training: of all classes equally many or, if not ``even``, of the first more.

    The test images that are split off are not looked at.
    """

    def __init__(self, *, even: bool = True):
        noise = torch.rand(240, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        self.noise = [to_pil_image(one) for one in noise]
        self.even = even

    def __len__(self) -> int:
        return len(self.noise)

    def __getitem__(self, index: int) -> tuple[Image, int]:
        return self.noise[index], 0 if index % 3 == 0 and not self.even else index % CLASSES


IMAGES = {even: Images(even=even) for even in (True, False)}


class Witness(Callback):
    """Keeps the batches and gradients of every step; BatchNorm stays as it is, for gloo cannot synchronise it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, number: int) -> None:
        self.batches.append(batch)
        freeze(module)

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer: Any) -> None:
        assert isinstance(module, TrainingModule)
        parameters = module.method.named_parameters()
        self.gradients.append({name: one.grad.clone() for name, one in parameters if one.grad is not None})


def freeze(module: nn.Module) -> None:
    """Put BatchNorm into evaluation mode, wherever it is."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


def network(seed: int = 0) -> TinyNetwork:
    torch.manual_seed(seed)
    return TinyNetwork(CLASSES, (4, 6, 10), 3)


def method_of(name: str, **options: Any) -> Callable[..., Any]:
    kind = known_methods()[name]
    if issubclass(kind, TeacherMethod) and kind.needs_teacher:
        options["teacher"] = network(seed=9)
    return partial(kind, **options)


def cases() -> dict[str, dict[str, Any]]:
    """Return arguments of ``train`` by case: every method there is, some of their options, some other settings."""
    methods = {name: {"method": method_of(name)} for name in known_methods()}
    variants = {name: {"method": method_of(kind, **options)} for name, (kind, options) in VARIANTS.items()}
    return methods | variants | SETTINGS


def trained(case: str, arguments: dict[str, Any], size: int, folder: Path) -> dict[str, Any]:
    """Train for two epochs and return what is to be compared."""
    witness = Witness()
    where: dict[str, Any] = {"accelerator": "cpu", "devices": size, "strategy": "ddp" if size > 1 else "auto"}
    how: dict[str, Any] = {"precision": "32-true", "memory_format": "contiguous", "recipe": "none", "num_workers": 0}
    quiet: dict[str, Any] = {"test": False, "report": False, "progress": False, "val_fraction": 0}
    result = train(
        IMAGES[case != "class weights"],
        network(),
        epochs=2,
        batch_size=BATCH,
        lr=0.01,
        out=folder / f"{case} {size}",
        callbacks=[witness],
        **where,
        **how,
        **quiet,
        **arguments,
    )
    return {
        "first": tuple(witness.batches[0]),
        "indices": [batch.indices for batch in witness.batches],
        "gradients": witness.gradients,
        "state": result.method.state_dict(),
    }


def process(rank: int, size: int, port: int, folder: Path, names: Sequence[str]) -> None:
    """Go through all cases as one process of several; what one raises is kept in its place."""
    if size > 1:
        os.environ.update(LOCAL_RANK=str(rank), MASTER_PORT=str(port))
    kept: dict[str, Any] = {}
    chosen = {case: arguments for case, arguments in cases().items() if case in names or not names}
    for case, arguments in chosen.items():
        try:
            kept[case] = trained(case, arguments, size, folder)
        except Exception:
            kept[case] = traceback.format_exc()
    torch.save(kept, folder / f"{rank}of{size}.pt")


def main(folder: Path, *names: str) -> bool:
    """Start all processes; return whether one of them has failed."""
    children = []
    reading, writing = os.pipe()  # which ends with this process
    for size in SIZES:
        port = find_free_network_port()
        for rank in range(size):
            child = os.fork()
            if not child:
                os.close(writing)
                end_with_parent(reading)
                try:
                    process(rank, size, port, folder, names)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    return any(codes)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
