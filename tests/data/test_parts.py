from pathlib import Path

import pytest
import torch

from classmates.data.parts import ImageData, Split, mean_and_std, moments_of
from classmates.data.readers.paths import Paths
from classmates.errors import UserError


def test_take_keeps_labels_and_images_together():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    taken = Split(torch.arange(5), images, class_names=("a", "b", "c", "d", "e")).take(torch.tensor([4, 0]))
    assert taken.class_names == ("a", "b", "c", "d", "e")
    assert taken.labels.tolist() == taken.images.flatten().tolist() == [4, 0]
    assert taken.paths is None
    files = Split(torch.arange(3), paths=Paths(Path("root"), ["abc"])).take(torch.tensor([2, 1]))
    assert list(files.paths) == [Path("root/c"), Path("root/b")]
    assert files.images is None
    assert len(files) == 2


def image_data(channels=3, *, in_memory=False):
    images = torch.zeros(2, 8, 8, channels, dtype=torch.uint8) if in_memory else None
    split = Split(torch.tensor([0, 1]), images, class_names=("a", "b"))
    return ImageData("x", channels, (8, 8), (0.1,) * channels, (0.2,) * channels, split, None, split, ("a note",))


def test_data_are_prepared_for_published_weights_and_say_so():
    data = image_data()
    prepared = data.prepared_for((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic")
    assert (prepared.mean, prepared.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (data.interpolation, prepared.interpolation) == ("bilinear", "bicubic")
    assert prepared.train is data.train
    assert prepared.notes == (
        "a note",
        "images are prepared as those of the published weights: mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225, "
        "resized by bicubic interpolation",
    )


def test_grey_images_take_the_mean_over_the_weights_channels():
    prepared = image_data(1).prepared_for((0.5, 0.4, 0.3), (0.3, 0.2, 0.1), "bilinear")
    assert (prepared.mean, prepared.std) == (pytest.approx((0.4,)), pytest.approx((0.2,)))
    assert "mean 0.4, deviation 0.2, the means over the weights' 3 channels" in prepared.notes[-1]
    assert image_data(3).prepared_for((0.5,), (0.25,), "bilinear").mean == (0.5, 0.5, 0.5)


def test_images_in_memory_are_resized_already_and_an_unknown_interpolation_is_left():
    prepared = image_data(in_memory=True).prepared_for((0.5,) * 3, (0.5,) * 3, "bicubic")
    assert prepared.interpolation == "bilinear"
    assert prepared.notes[-1].endswith("deviation 0.5 0.5 0.5")
    assert image_data().prepared_for((0.5,) * 3, (0.5,) * 3, "lanczos").interpolation == "bilinear"


def test_mean_and_std_are_those_of_all_pixels():
    images = torch.randint(256, (2500, 3, 4, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[..., 1] //= 4
    mean, std = mean_and_std(moments_of(images))
    values = images.double().flatten(0, 2) / 255
    torch.testing.assert_close(torch.tensor(mean), values.mean(0).float())
    torch.testing.assert_close(torch.tensor(std), values.std(0, correction=0).float())


def test_a_constant_channel_is_left_unscaled_and_constant_images_are_refused():
    images = torch.zeros(4, 2, 2, 3, dtype=torch.uint8)
    with pytest.raises(UserError, match="every pixel"):
        mean_and_std(moments_of(images))
    images[0, ..., 0] = 255
    mean, std = mean_and_std(moments_of(images))
    assert mean == pytest.approx((0.25, 0, 0))
    assert std == pytest.approx((0.1875**0.5, 1, 1))
