import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from classmates.evaluation.corruptions import (
    CORRUPTIONS,
    contrast,
    corrupted,
    darkness,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    pixelate,
)
from classmates.evaluation.evaluate import evaluate
from classmates.training.train import train

QUICK = {"epochs": 4, "batch_size": 50, "accelerator": "cpu", "loggers": (), "report": False, "progress": False}
NAMES = [f"{name}/{severity}" for name in CORRUPTIONS for severity in range(1, 6)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(**QUICK, train_size=300, val_fraction=0.2, out=tmp_path_factory.mktemp("runs") / "run").folder


def photos(channels=3, height=48, width=64, count=4):
    """Smooth images in 0..1 with coarse and fine parts, as photos have them."""
    draw = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 5, 5, generator=draw)
    fine = torch.rand(count, channels, height, width, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return (0.8 * smooth + 0.2 * fine).clamp(0, 1)


def in_8_bits(images):
    return (images.clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_get_worse_with_the_severity(name):
    corrupt, constants = CORRUPTIONS[name]
    sizes = ((8, 8), (28, 28), (48, 64), (130, 128))
    for shape in [(channels, *size) for channels in (1, 3) for size in sizes]:
        images = in_8_bits(photos(*shape))
        lost = [((in_8_bits(corrupt(images, constant)) - images) ** 2).mean().item() for constant in constants]
        assert lost[0] > 1e-5, shape
        assert lost == sorted(lost), shape
        assert len(set(lost)) == 5 or (name == "pixelate" and shape[1] == 8), shape  # of few sizes below its own


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_tiny_images(name):
    corrupt, constants = CORRUPTIONS[name]
    for size in ((1, 1), (1, 8), (3, 1), (2, 2)):
        images = torch.rand(2, 3, *size)
        for constant in constants:
            assert corrupt(images, constant).shape == images.shape, (size, constant)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_becomes_of_an_image_does_not_depend_on_the_others(name):
    images = photos()
    corrupt, constants = CORRUPTIONS[name]
    together = corrupt(images, constants[2])
    apart = torch.cat([corrupt(images[number : number + 1], constants[2]) for number in (3, 2, 1, 0)]).flip(0)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


def test_noise_is_normal_and_other_in_every_image():
    """Also where two images have as much light in all; the same for one however it was prepared."""
    images = torch.rand(3, 3, 64, 64)
    images[2] = images[1].flip(-1)
    added = gaussian_noise(images, 0.18) - images
    assert added.std((1, 2, 3)).tolist() == pytest.approx([0.18] * 3, rel=0.05)
    assert added.mean().item() == pytest.approx(0, abs=0.005)
    assert torch.corrcoef(added.flatten(1)).fill_diagonal_(0).abs().max() < 0.05
    pixels = in_8_bits(images)
    torch.testing.assert_close(gaussian_noise(pixels, 0.3), gaussian_noise(pixels - 1e-6, 0.3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (64, 64), (48, 96), (8, 8), (8, 224)])
def test_blur_is_that_of_scipy_and_shrinks_with_the_image(height, width):
    images = photos(height=height, width=width)
    sigma = max(6 * min(height, width) / 224, 1)
    expected = gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma), mode="mirror", truncate=5)
    np.testing.assert_allclose(gaussian_blur(images, (6, 1.0)).numpy(), expected, atol=2e-3)


def test_darkness_and_contrast_at_known_values():
    images = torch.tensor([0.2, 0.4, 0.8, 1.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(darkness(images, 0.5).flatten(), torch.tensor([0.1, 0.2, 0.4, 0.5]))
    torch.testing.assert_close(contrast(images, 0.5).flatten(), torch.tensor([0.4, 0.5, 0.7, 0.8]))
    colours = photos()
    torch.testing.assert_close(contrast(colours, 0.1).mean((2, 3)), colours.mean((2, 3)))


def test_coarse_pixels_are_flat():
    coarse = pixelate(photos(height=32, width=48), 0.25)
    blocks = coarse.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert (blocks == blocks[..., :1]).all()
    assert blocks[..., 0].std() > 0.05
    assert pixelate(torch.rand(1, 1, 2, 2), 0.25).unique().numel() == 1


def test_jpeg_keeps_flat_colours():
    flat = torch.tensor([0.2, 0.6, 1.0])[None, :, None, None].expand(2, 3, 16, 16)
    torch.testing.assert_close(jpeg(flat, 15), flat, rtol=0, atol=0.06)


def test_every_corruption_is_prepared_as_the_images_were():
    images, mean, std = photos(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    found = dict(corrupted((images - shift) / scale, mean, std))
    assert list(found) == NAMES
    for name, worse in found.items():
        assert worse.shape == images.shape
        pixels = (worse * scale + shift) * 255
        torch.testing.assert_close(pixels, pixels.round().clamp(0, 255), rtol=0, atol=1e-3, msg=name)
    dark = found["darkness/1"] * scale + shift
    torch.testing.assert_close(dark, images * 0.6, rtol=0, atol=0.5 / 255 + 1e-5)


def test_scores_of_worse_images_stand_beside_those_of_the_images(run, tmp_path):
    plain = evaluate(run, accelerator="cpu")
    scores = evaluate(run, accelerator="cpu", corruptions=True, batch_size=300, out=tmp_path / "scores.json")
    assert plain.corruptions == {}
    assert scores["top1"] == plain["top1"]
    assert scores["nll"].value == pytest.approx(plain["nll"].value, abs=1e-6)
    assert list(scores.corruptions) == list(CORRUPTIONS)
    by_severity = [each["top1"].value for each in scores.corruptions["gaussian_noise"]]
    assert by_severity[4] < by_severity[0] < plain["top1"].value
    again = evaluate(run, accelerator="cpu", corruptions=True, batch_size=7)
    for name, each in scores.corruptions.items():
        assert [one["top1"] for one in again.corruptions[name]] == [one["top1"] for one in each]
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["corruptions"]["jpeg"][4]["top1"]["value"] == scores.corruptions["jpeg"][4]["top1"].value
    assert "corruptions" not in json.loads(plain.to_json())


def test_the_table_has_their_means(run):
    scores = evaluate(run, accelerator="cpu", corruptions=True)
    _, _, _, head, *lines = str(scores).splitlines()
    assert head.split() == ["top-1", "by", "severity", "1", "2", "3", "4", "5", "mean"]
    assert [line.split("  ")[0] for line in lines] == [*(name.replace("_", " ") for name in CORRUPTIONS), "mean"]
    values = np.array([[one["top1"].value for one in each] for each in scores.corruptions.values()])
    assert lines[-1].split()[1:] == [f"{value:.2%}" for value in (*values.mean(0), values.mean())]
    assert lines[0].split()[-1] == f"{values[0].mean():.2%}"
    assert max(map(len, str(scores).splitlines())) <= 80


def test_calibrated_probabilities_are_judged_on_worse_images_too(run):
    plain = evaluate(run, accelerator="cpu", corruptions=True)
    scores = evaluate(run, accelerator="cpu", corruptions=True, calibrated=True)
    for each, calibrated in zip(plain.corruptions["jpeg"], scores.corruptions["jpeg"], strict=True):
        assert calibrated["top1"] == each["top1"]
        assert calibrated["nll"] != each["nll"]


def test_few_shot_learners_are_judged_on_worse_images_too(run):
    scores = evaluate(
        run,
        accelerator="cpu",
        corruptions=True,
        split="train",
        trust_code=False,
        task={"class_path": "FewShot", "init_args": {"eval_way": 3, "eval_episodes": 20}},
    )
    assert scores.corruptions["contrast"][4]["accuracy"].value < scores["accuracy"].value
