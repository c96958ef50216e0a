"""Deep supervision (Lee et al., AISTATS 2015) at self-distillation's exits: a control without any distillation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import check_choice
from classmates.losses.peers import ensemble_logits
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_weight
from classmates.models.blocks import kaiming_fan_out
from classmates.networks.heads.exits import MultiExit, ShallowExits
from classmates.networks.heads.initialisation import Initialisation
from classmates.networks.peers.peers import Peers


class DeepSupervision(Method):
    """Every exit learns from the labels; what SD gains beyond it is SD's own.

    L = CE(z_k, y) + w · Σ_{i<k} CE(z_i, y) over exits i, shallow to deep, the k-th the network's own classifier.
    The student is the network alone, whose classifier is the deepest exit; ``exits`` gives all of them.

    Args:
        weight: w, of each shallow exit's cross-entropy; 1 is SD at ``alpha`` 0 and ``lam`` 0.
        depths: k, how many stages, from the deepest, have an exit; a backbone with fewer uses all it has.
        attention: each shallow exit weighs its map first, as in SD.
        initialisation: the exits' convolutions begin Kaiming-normal by their outputs, as SD's released code has them
            ("released"), or as "torch" draws them.

    Raises:
        UserError: a weight below 0, fewer than 2 ``depths``, or an ``initialisation`` that is neither.
    """

    about = About("control", 2015, 1.1, search={"weight": (0.3, 1, 3)})
    mixes: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        weight: float = 1.0,
        depths: int = 4,
        attention: bool = True,
        initialisation: Initialisation = "released",
    ):
        check_choice("initialisation", initialisation, Initialisation)
        check_weight(weight=weight)
        super().__init__(Peers(network, data), data, weights={"exits": weight})
        self.shallow = ShallowExits(self.networks.architecture, depths, attention=attention)
        if initialisation == "released":
            self.shallow.apply(kaiming_fan_out)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        stages = outputs[-1].stages
        return {"exits": lambda: self.task.cross_entropy(self.shallow(stages).logits, batch)}

    def predictions(self, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """Return the deepest exit's (the student's), the shallow ones', shallow to deep, and the mean of all."""
        logits = self.shallow.with_deepest(outputs[-1])
        shallow = {f"exit{number}": exit_ for number, exit_ in enumerate(logits[:-1], start=1)}
        return {"student": outputs[-1].logits, **shallow, "ensemble": ensemble_logits(logits)}

    def exit_costs(self) -> list[float]:
        return self.exits().costs()

    def exits(self) -> MultiExit:
        """Return the network with all its exits, to be deployed where some images may be answered early."""
        return MultiExit(self.networks.student, self.networks.architecture, self.shallow)
