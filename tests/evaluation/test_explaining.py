"""Grad-CAM against a slow reference, by its symmetries, and on networks of every kind."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from classmates.errors import UserError
from classmates.evaluation import explaining
from classmates.evaluation.explaining import explanations, grad_cam, overlay, write_explanations
from classmates.evaluation.reading import prepared, read
from classmates.networks.backbone.architecture import inspect_network
from classmates.runs.student import StudentCard


def slow_grad_cam(maps, gradients):
    """Equations 1 and 2, number by number, in float64."""
    batch, channels, height, width = maps.shape
    found = np.zeros((batch, height, width))
    for image in range(batch):
        for row in range(height):
            for column in range(width):
                total = 0.0
                for channel in range(channels):
                    alpha = sum(gradients[image, channel].flatten().tolist()) / (height * width)
                    total += alpha * maps[image, channel, row, column].item()
                found[image, row, column] = max(0.0, total)
    return found


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_it_is_the_papers(images):
    maps, gradients = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64).unbind(0)
    np.testing.assert_allclose(grad_cam(maps, gradients), slow_grad_cam(maps, gradients), atol=1e-12)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(grad_cam(maps[:, order], gradients[:, order]), grad_cam(maps, gradients))
    torch.testing.assert_close(grad_cam(maps.flip(3), gradients), grad_cam(maps, gradients).flip(2))


def test_after_a_mean_over_places_it_is_the_class_activation_map(tiny_network, images):
    """There the gradient of a class's logit by a map is its weight over the number of places (section 3.1)."""
    network = tiny_network().eval()
    classes = torch.tensor([1, 3])
    heats, stage = explanations(network, inspect_network(network, (3, 32, 32)).stages, images, classes)
    maps = network.stage3(network.stage2(network.stage1(images)))
    expected = torch.einsum("bkhw,bk->bhw", maps, network.fc.weight[classes]).relu() / maps[0, 0].numel()
    assert stage == "stage3"
    torch.testing.assert_close(heats, expected)


@pytest.mark.parametrize(
    ("name", "sized", "last"),
    [
        ("mobilenetv3_small_050", {}, True),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8}, False),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "global_pool": "avg", "class_token": False}, True),
    ],
)
def test_other_families(name, sized, last, images):
    """A class token leaves the last block's places without a gradient: the stage before has one."""
    torch.manual_seed(0)
    network = (
        timm.create_model(name, num_classes=5, depth=4, **sized) if sized else timm.create_model(name, num_classes=5)
    )
    stages = inspect_network(network.eval(), (3, 64, 64) if not sized else (3, 32, 32)).stages
    given = images if sized else torch.randn(2, 3, 64, 64)
    heats, stage = explanations(network, stages, given, torch.tensor([0, 4]))
    assert (stage == stages[-1].name) == last
    assert heats.shape[1:] == stages[-1].shape[1:]
    assert (heats >= 0).all()
    assert heats.isfinite().all()


def test_a_network_whose_classes_depend_on_no_map_is_refused(tiny_network, images):
    network = tiny_network().eval()
    stages = inspect_network(network, (3, 32, 32)).stages
    nn.init.zeros_(network.fc.weight)
    with pytest.raises(UserError, match=r"TinyNetwork cannot be explained.*stage1, stage2, stage3"):
        explanations(network, stages, images, torch.tensor([0, 1]))


def test_every_picture_explains_the_class_of_its_own_image(tiny_network, tmp_path, monkeypatch):
    """In the second batch too."""
    network, cpu = tiny_network().eval(), torch.device("cpu")
    card = StudentCard(None, tuple("abcd"), (3, 32, 32), (0.5,) * 3, (0.2,) * 3, (32, 32))
    files = [tmp_path / "first.png", tmp_path / "second.png"]
    for seed, file in enumerate(files):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    monkeypatch.setattr(explaining, "BATCH", 1)
    write_explanations(tmp_path / "why", network, card, files, torch.eye(4)[[3, 1]], cpu)

    def explained(file, number):
        pixels, stages = read(file, card)[None], inspect_network(network, card.input_shape).stages
        heats, _ = explanations(network, stages, prepared(pixels, card, cpu), torch.tensor([number]))
        return np.asarray(overlay(pixels[0].numpy(), heats[0]))

    for name, file, own, others in (("0-first-d", files[0], 3, 1), ("1-second-b", files[1], 1, 3)):
        found = np.asarray(Image.open(tmp_path / "why" / f"{name}.png"))
        np.testing.assert_array_equal(found, explained(file, own))
        assert (found != explained(file, others)).any()


def test_the_overlay_leaves_cold_places_as_they_are():
    pixels = np.full((224, 224, 3), 128, np.uint8)
    heat = torch.zeros(8, 8)
    heat[0, 0] = 5.0
    picture = np.asarray(overlay(pixels, heat))
    assert (picture[112:] == 128).all()
    assert (picture[0, 0] != 128).any()
    small = overlay(np.zeros((8, 6, 1), np.uint8), torch.zeros(2, 2))
    assert isinstance(small, Image.Image)
    assert small.size == (224, 299)
