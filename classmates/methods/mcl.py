"""MCL-OKD: multi-view contrastive learning for online knowledge distillation (Yang, An, Xu, ICASSP 2021).

Peers on a shared trunk learn from the labels; what they make of one sample is pulled together and pushed away from
samples of other classes (the contrast); the student, which is the last peer, also learns from their ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError, check_choice
from classmates.losses.peers import ensemble_logits
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Deploy, Method, Views
from classmates.methods.checks import check_temperature, check_weight
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.memory.bank_contrast import BankContrast, BankDtype, Draw, Normaliser, Positives, Unwritten
from classmates.networks.memory.sharded_contrast import ShardedBankContrast
from classmates.networks.peers.peers import Peers, Start

Distilled = Literal["task", "classifier"]
Learners = Literal["student", "all"]
Bank = Literal["whole", "sharded"]
BANKS: dict[Bank, type[BankContrast]] = {"whole": BankContrast, "sharded": ShardedBankContrast}


class MCL(Method):
    """Peers contrast their outputs of a sample; the student also learns from their ensemble.

    L = Σ_m CE(z_m, y) + w T² KL(p_e ‖ p_M) + β L_contrast over M peers (equation 9); p_e is the softened mean of
    their logits, L_contrast a sum over all ordered pairs of peers.

    Defaults are the paper's values for ResNet-32 on CIFAR-100 and, where paper and released code differ, what
    produced the published numbers: the released code.

    Where training begins from trained weights, what is not chosen is peers 2, share "nothing", start "identical",
    views "own", distil_to "all".

    Args:
        peers: M, the student included; the paper uses 4.
        share: what the peers share of the student: -2 shares all but its last two stages (paper), a stage's name
            shares up to and including it, "nothing" trains whole networks.
        peer_models: other architectures (names or modules) for the peers, ``peers`` - 1 of them; they share nothing.
        start: "fresh" peers have weights of their own; "same" begins from the student's (pretrained networks);
            "identical" also with its classifier.
        views: "own" shows each peer its own augmentation of the images.
        deploy: "average" scores and deploys the average of all peers' weights; "auto" does so where they began
            "identical", and else takes the student.
        temperature: T, softens both sides of the distillation from the ensemble; 3.
        distillation: w, factor in front of T²·KL; 0 leaves the contrast alone (the paper's "+MCL" ablation).
        distil_to: which peers learn from the ensemble: the "student" (paper), or "all", whose divergences are added.
        standardise: take each sample's logits as z-scores in the distillation (``losses/soft_targets.py``).
        distilled: the logits that the ensemble teaches: "task" those on which the task's loss rests (in few-shot
            learning, of a query against the prototypes of its episode), "classifier" those of the networks'
            classifiers of all training classes. In classification both are the same.
        beta: β, the weight of the contrast, which is a sum over all M(M-1) ordered pairs.
        num_negatives: K, how many negatives stand against one positive; 256 for ResNets and DenseNet on CIFAR-100,
            16384 for VGG, HCGNet and ImageNet. Capped, with a note, at the samples of other classes there are.
        contrast_temperature: τ; 0.1 on CIFAR-100, 0.07 on ImageNet.
        positives: "bank" takes the partner's remembered embedding (released code), "live" its present one (paper).
        normaliser: "batch" takes one constant a pair and step (released code), "anchor" one an anchor, over the whole
            bank (paper, Eq. 6), "first_batch" keeps the first step's, "lagged" takes a running mean over earlier
            steps. The last two go through the negatives once a step instead of twice.
        negatives: how they are chosen, to the same mean: "independent" draws K for each anchor (released code),
            "shared" K for the whole batch, "all" takes every sample of another class, K being their weight; "auto"
            is "all" up to 8,192 training samples (or K) and above a shared draw of that many.
        dimension: size of the embeddings that are contrasted; 128.
        momentum: of the memory banks; 0.5.
        bank: "whole" on every GPU, or "sharded": of G GPUs each keeps 1/G of the rows and contrasts all GPUs' images
            with them, to the result of one GPU with all images; not with ``negatives`` "independent".
        bank_dtype: bfloat16 halves the banks' memory and traffic.
        unwritten: what stands in the banks for images that no batch has had yet: unit vectors at "random", or
            "masked": they are no negatives, and as positives the present embeddings take their place, which needs the
            normaliser "batch" or "lagged".

    Raises:
        UserError: fewer than 2 peers, K or d below 1, temperatures not above 0, weights below 0, words that are none
            of an option's, and what ``Peers`` refuses.
    """

    about = About(
        "online",
        2021,
        3.0,
        needs="memory for an embedding of every training image and peer",
        search={"beta": (0.008, 0.025, 0.08), "distillation": (0.3, 1, 3)},
    )
    renamed: ClassVar[Mapping[str, str]] = {"helpers": "peer_models"}
    # Measured on photos (docs/evidence/fine_tuning.md): fine-tuned networks stay near enough to each other for an
    # average of their weights, which keeps the accuracy of the ensemble in one network; own views make them differ.
    fine_tuning: ClassVar[Mapping[str, Any]] = {
        "peers": 2,
        "share": "nothing",
        "start": "identical",
        "views": "own",
        "distil_to": "all",
    }

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        peers: int = 4,
        share: int | str = -2,
        peer_models: Sequence[str | nn.Module] = (),
        start: Start = "fresh",
        views: Views = "shared",
        deploy: Deploy = "auto",
        temperature: float = 3.0,
        distillation: float = 1.0,
        distil_to: Learners = "student",
        standardise: bool = False,
        distilled: Distilled = "task",
        beta: float = 0.025,
        num_negatives: int = 256,
        contrast_temperature: float = 0.1,
        positives: Positives = "bank",
        normaliser: Normaliser = "batch",
        negatives: Draw = "auto",
        dimension: int = 128,
        momentum: float = 0.5,
        bank: Bank = "whole",
        bank_dtype: BankDtype = "float32",
        unwritten: Unwritten = "random",
    ):
        if peers < 2:
            raise UserError(f"peers={peers}: MCL contrasts peers with each other and needs at least 2")
        check_temperature(temperature=temperature, contrast_temperature=contrast_temperature)
        check_weight(beta=beta)
        check_choice("distil_to", distil_to, Learners)
        check_choice("distilled", distilled, Distilled)
        check_choice("bank", bank, Bank)
        networks = Peers(network, data, peers, share=share, start=start, peer_models=peer_models)
        super().__init__(
            networks,
            data,
            weights={"distillation": kl_weight(distillation, temperature), "contrast": beta},
            views=views,
            deploy=deploy,
            classifier=distilled == "classifier" and distillation > 0,
        )
        check_standardise(
            standardise, self.task.logit_classes(data.num_classes) if distilled == "task" else data.num_classes
        )
        self.distilled = distilled
        self.temperature = temperature
        self.distil_to = distil_to
        self.standardise = standardise
        make_contrast = partial(
            BANKS[bank],
            [architecture.embedding for architecture in networks.architectures],
            data.labels,
            num_negatives=num_negatives,
            temperature=contrast_temperature,
            positives=positives,
            normaliser=normaliser,
            negatives=negatives,
            dimension=dimension,
            momentum=momentum,
            bank_dtype=bank_dtype,
            unwritten=unwritten,
        )
        self.contrast = make_contrast() if beta else None  # its banks take memory
        for text in self.contrast.notes if self.contrast else ():
            self.note(text)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Load, also from checkpoints of version 0.1, where the parts of the contrast were its own."""
        earlier = tuple(prefix + part for part in ("bank.", "projections.", "log_mean", "_extra_state"))
        for name in [name for name in state_dict if name.startswith(earlier)]:
            state_dict[f"{prefix}contrast.{name.removeprefix(prefix)}"] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {
            "distillation": lambda: self.distillation(outputs, batch),
            "contrast": lambda: self.contrasted(outputs, batch),
        }

    def contrasted(self, outputs: list[NetworkOutput], batch: Batch) -> Tensor:
        """Return the contrast (Eq. 9), which only MCL with a ``beta`` has."""
        assert self.contrast is not None
        return self.contrast(outputs, batch)

    def distillation(self, outputs: list[NetworkOutput], batch: Batch) -> Tensor:
        """Return KL(p_e ‖ p_M) without T², or the sum of KL(p_e ‖ p_m) over all peers where all learn."""
        logits = self.task.logits(outputs, batch) if self.distilled == "task" else stack_logits(outputs)
        learners = logits if self.distil_to == "all" else logits[-1:]
        divergence = softened_kl(learners, ensemble_logits(logits), self.temperature, standardise=self.standardise)
        return len(learners) * divergence

    def tells_peers_apart(self) -> bool:
        return bool(self.weights["contrast"])  # each peer has a projection of its own

    def against_mixing(self) -> str | None:
        if not self.weights["contrast"]:
            return None
        return "its contrast would keep a mixed image in the memory bank as the one sample that it began as (beta=0)"
