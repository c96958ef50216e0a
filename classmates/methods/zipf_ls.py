"""Zipf-LS (Liang et al., "Efficient One Pass Self-distillation with Zipf's Label Smoothing", ECCV 2022).

The network ranks the wrong classes itself, by what it makes of each place of the image; softened labels follow Zipf's
law over these ranks. One network, one pass.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError, check_choice
from classmates.losses.zipf import count_votes, zipf_divergence, zipf_targets
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.networks.backbone.observe import observe
from classmates.networks.backbone.probe import sample_images, silent
from classmates.networks.peers.peers import Peers

Ranking = Literal["auto", "places", "logits"]


class ZipfLS(Method):
    """The network learns from the labels, and from 1/rank of the wrong classes, ranked by its own votes.

    L = CE(z, y) + λ KL(q ‖ p̂), with p̂ the softmax over all classes but the true one, and q_c ∝ 1/rank_c over these.
    The classifier is applied to every place of the last map, and each votes for one class; classes with equally many
    votes share the best of their ranks, those without any the last.

    Args:
        smoothing: λ, weight of the divergence: 0.1 for CIFAR-100 and ImageNet, 1 for Tiny-ImageNet and iNaturalist.
        upsample: how many times larger, in height and width, the map is made before its places vote, bilinearly: 2
            for 32x32 images (released code), 1 for large ones. Logits rank without it.
        ranking: "places" by their votes (paper), "logits" by the network's own logits; "auto" is "places" for
            networks whose embedding is the mean of the last stage's map, and "logits", with a note, for all others.

    Raises:
        UserError: a ``smoothing`` below 0, an ``upsample`` below 1, fewer than 3 classes, of which there is nothing
            to rank, or "places" of a network whose embedding is not their mean.
    """

    about = About("self", 2022, 1.0, search={"smoothing": (0.03, 0.1, 0.3)})

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        smoothing: float = 0.1,
        upsample: int = 2,
        ranking: Ranking = "auto",
    ):
        check_choice("ranking", ranking, Ranking)
        if upsample < 1:
            raise UserError(f"upsample={upsample}: a map is made that many times larger; 1 leaves it as it is")
        if data.num_classes < 3:
            raise UserError(
                f"the data have {data.num_classes} classes: ZipfLS needs 3 or more, for it ranks the wrong ones"
            )
        super().__init__(Peers(network, data), data, weights={"smoothing": smoothing})
        self.upsample = upsample
        self.by_places = ranking != "logits" and self.places_can_vote()
        if not self.by_places and ranking != "logits":
            why = f"the embedding of {type(network).__name__} is not the mean of its last stage's map"
            if ranking == "places":
                raise UserError(f"ranking='places': {why}, so its places cannot vote; say ranking='logits'")
            self.note(f"{why}, so its places cannot vote: classes are ranked by its logits (ranking 'logits')")

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"smoothing": lambda: self.smoothing(outputs[-1], batch.labels)}

    def against_mixing(self) -> str:
        return "its targets leave out the one true class of each image"

    def smoothing(self, output: NetworkOutput, labels: Tensor) -> Tensor:
        """Return KL(q ‖ p̂)."""
        scores = self.votes(output.stages[-1]) if self.by_places else output.logits.detach().float()
        return zipf_divergence(output.logits, zipf_targets(scores, labels), labels)

    @torch.no_grad()
    def votes(self, maps: Tensor) -> Tensor:
        """Return the votes of the places of the last maps, [B, D, H, W], for each class: [B, K]."""
        classifier = self.networks.student.get_submodule(self.networks.architecture.classifier)
        if isinstance(classifier, nn.Linear):
            logits = classifier(maps.movedim(1, -1)).movedim(-1, 1)
        else:  # a 1x1 convolution
            logits = classifier(maps)
        if self.upsample > 1:  # after the classifier, which is linear: the same, of fewer channels
            logits = F.interpolate(logits, scale_factor=self.upsample, mode="bilinear")
        return count_votes(logits)

    def places_can_vote(self) -> bool:
        """Return whether the embedding is the mean of the last map, so that the classifier knows its places."""
        network, architecture = self.networks.student, self.networks.architecture
        with silent(network):
            output = observe(network, architecture, sample_images(network, architecture.input_shape))
        mean = output.stages[-1].mean((2, 3))
        return mean.shape == output.embedding.shape and torch.allclose(mean, output.embedding, rtol=1e-3, atol=1e-5)
