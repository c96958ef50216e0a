"""BAKE (Ge et al., "Self-distillation with Batch Knowledge Ensembling Improves ImageNet Classification", 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import ClassUniform
from classmates.errors import UserError
from classmates.losses.propagation import propagated_kl
from classmates.losses.soft_targets import check_standardise, kl_weight, standardised
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_temperature, check_weight
from classmates.networks.memory.gather import gather, gather_with_gradient
from classmates.networks.peers.peers import Peers


class BAKE(Method):
    """The network learns from its predictions for similar images of the batch, spread from image to image.

    L = CE(z, y) + λ T² KL(Q ‖ p), with p the softened predictions and Q = (1 − ω)(I − ωA)⁻¹ p, held constant; A has
    in each row the softmax of an image's cosines with all others.

    Batches have ``intra`` more images of each image's class. An epoch goes through every image once, in groups of
    ``intra`` + 1, which are filled with images again where a class does not divide by it; in the released code every
    image is once joined by ``intra`` others, so that its epoch is ``intra`` + 1 times as long.

    Args:
        lam: λ, weight of the distillation; 1.
        temperature: T, softens both sides; 4.
        standardise: take each sample's logits as z-scores in the distillation (see ``standardised``).
        omega: ω, the share of the others' predictions: 0.5 for CIFAR-100, CUB and ImageNet, 0.9 for Tiny-ImageNet,
            Stanford Dogs and MIT67.
        intra: M, how many others of its class each image has in the batch: 3 for CIFAR-100 and CUB, 1 for the others.

    Raises:
        UserError: a ``lam`` below 0, a temperature not above 0, an ``omega`` outside 0..1 or 1, or an ``intra``
            below 0.
    """

    about = About("self", 2021, 1.0, needs="batches of several images a class", search={"lam": (0.3, 1, 3)})

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        lam: float = 1.0,
        temperature: float = 4.0,
        standardise: bool = False,
        omega: float = 0.5,
        intra: int = 3,
    ):
        check_weight(lam=lam)
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        if not 0 <= omega < 1:
            raise UserError(f"omega={omega}: the share of the others' predictions lies between 0 and below 1")
        if intra < 0:
            raise UserError(f"intra={intra}: a number of further images of a class, 0 for shuffled batches")
        weights = {"distillation": kl_weight(lam, temperature)}
        sampling = ClassUniform(intra + 1) if intra else None
        super().__init__(Peers(network, data), data, weights, prefers=sampling)
        self.temperature = temperature
        self.standardise = standardise
        self.omega = omega
        self.intra = intra

    def against_mixing(self) -> str | None:
        if not self.intra:
            return None
        return "each image is mixed with the one beside it, which in these batches is mostly of its class (intra=0)"

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"distillation": lambda: self.distillation(outputs[-1])}

    def distillation(self, output: NetworkOutput) -> Tensor:
        """Return KL(Q ‖ p)."""
        logits = standardised(output.logits) if self.standardise else output.logits
        everyone = gather_with_gradient(logits), gather(output.embedding.detach())
        return propagated_kl(*everyone, self.omega, self.temperature)
