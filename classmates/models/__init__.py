"""The backbones of the CORSD and MCL-OKD papers, registered with timm when this package is imported.

``timm.create_model("resnet32", num_classes=100)`` then works, and so does ``classmates.models.resnet32(...)``.

One rule for the names: a network has its plain name (``resnet32``, ``preact_resnet18``), and the suffix ``_cifar``
where timm already uses that name for another network or family (timm's ``resnet18`` is made for 224 pixels, ours,
``resnet18_cifar``, for 32). The papers' ImageNet networks (ResNet-18, ResNet-34, ResNeXt50-32x4d, WideResNet50-2 at
224 pixels) are timm's own, under timm's names.

Parameters for 100 classes and multiply-adds at 32×32 pixels (Conv-4: no classifier, 84×84) are in
``tests/models/test_counts.py``, which holds every network to the published definition.
"""

from classmates.models.conv4 import conv4
from classmates.models.densenet import densenet40_12
from classmates.models.hcgnet import hcgnet_a1
from classmates.models.mobilenet import mobilenetv1_cifar
from classmates.models.preact import preact_resnet18, preact_resnet50
from classmates.models.resnet import (
    resnet8,
    resnet14,
    resnet18_cifar,
    resnet20,
    resnet32,
    resnet50_cifar,
    resnet56,
    resnet101_cifar,
    resnet110,
    resnet110_basic,
    resnext50_32x4d_cifar,
    resnext101_32x8d_cifar,
    wide_resnet50_2_cifar,
    wide_resnet101_2_cifar,
)
from classmates.models.senet import seresnet18_cifar, seresnet50_cifar
from classmates.models.vgg import vgg16_bn_cifar

__all__ = [
    "conv4",
    "densenet40_12",
    "hcgnet_a1",
    "mobilenetv1_cifar",
    "preact_resnet18",
    "preact_resnet50",
    "resnet8",
    "resnet14",
    "resnet18_cifar",
    "resnet20",
    "resnet32",
    "resnet50_cifar",
    "resnet56",
    "resnet101_cifar",
    "resnet110",
    "resnet110_basic",
    "resnext50_32x4d_cifar",
    "resnext101_32x8d_cifar",
    "seresnet18_cifar",
    "seresnet50_cifar",
    "vgg16_bn_cifar",
    "wide_resnet50_2_cifar",
    "wide_resnet101_2_cifar",
]
