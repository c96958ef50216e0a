"""Conv-4, the few-shot learner's backbone (Vinyals et al., NeurIPS 2016; Snell et al., NeurIPS 2017)."""

from __future__ import annotations

from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from classmates.errors import UserError
from classmates.models.backbone import Backbone, Stage
from classmates.models.registry import register


class Conv4(Backbone):
    """Four times 3×3 convolution (64, bias) → BatchNorm → ReLU → 2×2 max-pool; the embedding is the flattened map.

    Args:
        num_classes: as in ``Backbone``; 0, the embedding itself, is what prototypes are made of.
        in_chans: channels of the image.
        img_size: pixels a side of the images that a classifier is made for; without one any size will do.
        uniform_scales: whether the BatchNorm scales begin as U(0, 1), as torch drew them until version 1.2 and some
            releases do to this day, and not as 1.

    Raises:
        UserError: in ``forward``, where there is a classifier and the images are not of ``img_size``.
    """

    def __init__(self, *, num_classes: int, in_chans: int, img_size: int = 84, uniform_scales: bool = False) -> None:
        stages = []
        for number in range(4):
            convolution = Conv2dNormActivation(64 if number else in_chans, 64, 3, bias=True, activation_layer=None)
            # ReLU(max) = max(ReLU), with the same gradient, on a quarter of the values.
            pool, relu = nn.MaxPool2d(2), nn.ReLU(inplace=True)
            stages.append(Stage(convolution, pool, relu, channels=64, reduction=2 ** (number + 1)))
        super().__init__(nn.Identity(), stages, num_classes=0)
        self.global_pool = nn.Flatten()
        self.head_hidden_size = self.num_features * (img_size // 16) ** 2
        self.reset_classifier(num_classes)
        if uniform_scales:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        embedding = super().forward_head(features, pre_logits=True)
        if pre_logits:
            return embedding
        if self.num_classes and embedding.shape[1] != self.head_hidden_size:
            raise UserError(
                f"the classifier of this conv4 takes embeddings of {self.head_hidden_size}, these images give "
                f"{embedding.shape[1]}; build it with img_size set to their side, or with num_classes=0"
            )
        return self.fc(embedding)


@register(
    stages=4,
    first_conv="layer1.0.0",
    input_size=(3, 84, 84),
    num_classes=0,
    mean=IMAGENET_DEFAULT_MEAN,
    std=IMAGENET_DEFAULT_STD,
)
def conv4(**kwargs: Any) -> Backbone:
    """Conv-4 for 84×84 images, embedding 1600, by default without a classifier. Torch's own initialisation."""
    return Conv4(**kwargs)
