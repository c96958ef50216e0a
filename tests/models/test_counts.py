"""Every network is the published one, to the last parameter and multiply-add (``pytest -s`` prints the table)."""

from functools import cache

import pytest
import timm
import torch
from torch import nn

import classmates.models
from classmates.networks.building.complexity import count_parameters, multiply_adds

# name: (parameters, multiply-adds) for 100 classes at 32×32 pixels; Conv-4 without classifier at 84×84
PUBLISHED = {
    "resnet32": (472_756, 69_130_496),
    "resnet110": (1_170_868, 167_453_696),
    "vgg16_bn_cifar": (14_774_436, 313_247_744),
    "densenet40_12": (188_092, 72_377_232),
    "hcgnet_a1": (1_102_651, 154_269_036),
    "resnet18_cifar": (11_220_132, 555_468_800),
    "resnet50_cifar": (23_705_252, 1_298_014_208),
    "resnet101_cifar": (42_697_380, 2_510_168_064),
    "resnext50_32x4d_cifar": (23_177_124, 1_344_151_552),
    "resnext101_32x8d_cifar": (86_939_556, 5_322_448_896),
    "wide_resnet50_2_cifar": (67_031_460, 3_684_573_184),
    "wide_resnet101_2_cifar": (125_034_916, 7_392_337_920),
    "seresnet18_cifar": (11_314_012, 555_555_840),
    "seresnet50_cifar": (26_262_804, 1_300_529_152),
    "preact_resnet18": (11_222_244, 555_468_800),
    "preact_resnet50": (23_720_164, 1_222_516_736),
    "mobilenetv1_cifar": (3_315_428, 46_446_592),
    "conv4": (113_088, 97_164_288),
    "resnet110_basic": (1_736_564, 253_155_584),  # 1.74 M in RepDistiller's comparisons
    # no paper's: ResNet-32 with more or fewer blocks, each worth the same (see the test below)
    "resnet8": (83_892, 12_507_392),
    "resnet14": (181_108, 26_663_168),
    "resnet20": (278_324, 40_818_944),
    "resnet56": (861_620, 125_753_600),
}
# timm's own, 1000 classes at 224×224 pixels: 1.814, 3.664, 4.230 and 11.398 G in print
IMAGENET = {
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnext50_32x4d": (25_028_904, 4_230_479_872),
    "wide_resnet50_2": (68_883_240, 11_398_021_120),
}


@cache
def build(name: str, **kwargs: int) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **kwargs)


def test_every_network_has_the_published_parameters_and_multiply_adds():
    counted = {}
    print(f"\n{'network':24} {'parameters':>12} {'multiply-adds':>15}")
    for name in PUBLISHED:
        network = build(name)
        input_shape = network.pretrained_cfg["input_size"]
        counted[name] = (count_parameters(network), multiply_adds(network, input_shape))
        print(f"{name:24} {counted[name][0]:12,} {counted[name][1]:15,}")
    assert counted == PUBLISHED


def test_no_network_is_left_uncounted():
    assert set(PUBLISHED) == set(classmates.models.__all__)


@pytest.mark.parametrize("name", IMAGENET)
def test_the_imagenet_networks_are_timms(name):
    network = build(name)
    counted = (count_parameters(network), multiply_adds(network, (3, 224, 224)))
    print(f"\n{name:24} {counted[0]:12,} {counted[1]:15,}", end="")
    assert counted == IMAGENET[name]


def test_the_small_residual_networks_grow_by_equal_blocks():
    for column in (0, 1):
        base = PUBLISHED["resnet8"][column]
        block = (PUBLISHED["resnet32"][column] - base) // 4  # one more block in each of the three stages
        grown = {"resnet14": 1, "resnet20": 2, "resnet32": 4, "resnet56": 8, "resnet110_basic": 17}
        assert {name: base + more * block for name, more in grown.items()} == {
            name: PUBLISHED[name][column] for name in grown
        }


@pytest.mark.parametrize(
    ("name", "shared", "branch", "shared_millions", "branch_millions"),
    [
        ("resnet32", 23_824, 448_932, 24.0, 45.1),
        ("resnet110", 55_376, 1_115_492, 54.2, 113.3),
        ("vgg16_bn_cifar", 1_737_792, 13_036_644, 190.5, 122.7),
        ("densenet40_12", 53_328, 134_764, 53.2, 19.2),
        ("hcgnet_a1", 117_726, 984_925, 63.1, 91.1),
    ],
)
def test_all_but_the_last_two_stages_are_what_mcl_okd_shares(name, shared, branch, shared_millions, branch_millions):
    network = build(name)
    names = [info["module"] for info in network.feature_info]
    trunk = nn.Sequential(network.stem, *(network.get_submodule(name) for name in names[:-2]))
    assert count_parameters(trunk) == shared
    assert count_parameters(network) - count_parameters(trunk) == branch
    trunk_work = multiply_adds(trunk, (3, 32, 32))
    assert round(trunk_work / 1e6, 1) == shared_millions
    assert round((multiply_adds(network, (3, 32, 32)) - trunk_work) / 1e6, 1) == branch_millions


def test_the_classifier_is_the_only_part_that_the_classes_change():
    ten, hundred = build("resnet32", num_classes=10), build("resnet32", num_classes=100)
    assert count_parameters(hundred) - count_parameters(ten) == 90 * 65
    assert count_parameters(build("resnet32", num_classes=0)) == count_parameters(hundred) - 6_500


@pytest.mark.parametrize(
    "name",
    [
        "resnet8",
        "seresnet18_cifar",
        "preact_resnet18",
        "vgg16_bn_cifar",
        "densenet40_12",
        "mobilenetv1_cifar",
        "conv4",
    ],
)
def test_channels_of_the_image_change_the_first_convolution_alone(name):
    grey, colour = build(name, in_chans=1), build(name)
    first = colour.get_submodule(colour.pretrained_cfg["first_conv"])
    assert count_parameters(colour) - count_parameters(grey) == 2 * 9 * first.out_channels
