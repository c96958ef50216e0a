"""SD: self-distillation, a network that teaches its own shallow exits.

Zhang et al., "Be Your Own Teacher" (BYOT, ICCV 2019) and "Self-Distillation: Towards Efficient and Compact Neural
Networks" (TPAMI 2021). Every shallow stage gets an exit; exits learn from the labels, from the deepest exit's
predictions and from its embedding. By default this is the TPAMI form with the values of its released script.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError, check_choice
from classmates.losses.corsd import auxiliary_distillation
from classmates.losses.soft_targets import check_standardise, kl_weight
from classmates.methods.about import About
from classmates.methods.checks import check_share, check_temperature, check_weight
from classmates.methods.deep_supervision import DeepSupervision
from classmates.networks.heads.initialisation import Initialisation
from classmates.networks.memory.gather import gather, gather_with_gradient

Distance = Literal["norm", "squared"]
Skip = Literal["deepest", "shallowest", "none"]
HINTED = {"deepest": slice(0, -1), "shallowest": slice(1, None), "none": slice(None)}


def embedding_distance(shallow: Tensor, deepest: Tensor, distance: Distance = "norm") -> Tensor:
    """Return Σ_i ‖F_i − F_k‖: how far the exits' embeddings are from the deepest one's, which is held constant.

    Args:
        shallow: [e, B, D], adapted embeddings of some shallow exits.
        deepest: [B, D].
        distance: "norm" is the Euclidean norm of the whole batch's difference, which grows as √B (released TPAMI
            script, with λ = 0.03 at B = 128); "squared" is the squared norm of an image's difference, averaged over
            the batch (BYOT, whose sum over the batch at λ = 1e-6 is λ = 1.28e-4 here at B = 128).

    Returns:
        A scalar, float32; at a difference of 0 the gradient is 0 for both.
    """
    difference = shallow.float() - deepest.detach().float()
    if distance == "norm":
        return torch.linalg.vector_norm(difference, dim=(1, 2)).sum()
    return difference.square().sum(-1).mean(-1).sum()


class SD(DeepSupervision):
    """Shallow exits learn from labels and from the deepest exit; the student is the plain network below them.

    L = CE(z_k, y) + Σ_{i<k} [(1 − α) CE(z_i, y) + α KL_T(z_k ‖ z_i)] + λ Σ_i ‖W_i f_i − f_k‖ over exits i, shallow to
    deep, with z_k and f_k held constant where they teach; with ``scale``, KL_T is times T². BYOT is ``alpha`` 0.1,
    ``scale`` true, ``lam`` 1.28e-4, ``distance`` "squared", ``skip`` "none", ``attention`` and ``adaptation`` false;
    its bottleneck aligners are SepConvs here.

    Args:
        alpha: α, share of the distillation in a shallow exit's loss; the rest is its cross-entropy. TPAMI 0.3,
            BYOT 0.1.
        lam: λ, weight of the embeddings' distance.
        temperature: T, softens both sides of the distillation; 3 in both.
        scale: multiplies the distillation by T²: BYOT does, the TPAMI script does not.
        standardise: take each sample's logits as z-scores in the distillation (``losses/soft_targets.py``).
        depths: k, how many stages, from the deepest, have an exit; a backbone with fewer uses all it has.
        attention: each shallow exit weighs its map first (TPAMI).
        adaptation: a linear layer W_i for each embedding that is compared (TPAMI). The released script makes them at
            the first batch and then the optimiser anew; here they are there from the start.
        distance: of embeddings: "norm" of the whole batch's difference (TPAMI) or mean "squared" distance (BYOT).
        skip: which shallow exit's embedding is not compared: the "deepest" (what the released script does), the
            "shallowest" (what its comment says) or "none" (BYOT).
        initialisation: the exits' convolutions begin Kaiming-normal by their outputs, as in the "released" code, or
            as "torch" draws them.

    Raises:
        UserError: an ``alpha`` outside 0..1, a ``lam`` below 0, a temperature not above 0, words that are none of an
            option's, fewer than 2 ``depths``, or a ``skip`` that leaves no embedding to compare.
    """

    about = About("self", 2021, 1.2, search={"alpha": (0.1, 0.3, 0.5), "lam": (0.01, 0.03, 0.1)})

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        alpha: float = 0.3,
        lam: float = 0.03,
        temperature: float = 3.0,
        scale: bool = False,
        standardise: bool = False,
        depths: int = 4,
        attention: bool = True,
        adaptation: bool = True,
        distance: Distance = "norm",
        skip: Skip = "deepest",
        initialisation: Initialisation = "released",
    ):
        check_share(alpha=alpha)
        check_weight(lam=lam)
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        check_choice("distance", distance, Distance)
        check_choice("skip", skip, Skip)
        super().__init__(
            network, data, weight=1 - alpha, depths=depths, attention=attention, initialisation=initialisation
        )
        self.weights |= {"distillation": kl_weight(alpha, temperature, scale=scale), "embeddings": lam}
        self.temperature = temperature
        self.standardise = standardise
        self.distance: Distance = distance
        self.hinted = HINTED[skip]
        count = len(range(len(self.shallow))[self.hinted])
        if lam and not count:
            raise UserError(
                f"skip='{skip}' leaves no embedding to compare, for there is 1 shallow exit: use skip='none' or lam=0"
            )
        width = self.networks.architecture.embedding
        self.adapters = nn.ModuleList(nn.Linear(width, width) if adaptation else nn.Identity() for _ in range(count))

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        output = outputs[-1]
        shallow = cache(lambda: self.shallow(output.stages))
        return {
            "exits": lambda: self.task.cross_entropy(shallow().logits, batch),
            "distillation": lambda: auxiliary_distillation(
                torch.cat([shallow().logits, output.logits[None]]), self.temperature, standardise=self.standardise
            ),
            "embeddings": lambda: embedding_distance(
                gather_with_gradient(self.adapt(shallow().embeddings[self.hinted]), dim=1),
                gather(output.embedding.detach()),
                self.distance,
            ),
        }

    def adapt(self, embeddings: Tensor) -> Tensor:
        """Return W_i f_i of the exits that are compared: [e, B, D]."""
        return torch.stack([adapter(f) for adapter, f in zip(self.adapters, embeddings, strict=True)])
