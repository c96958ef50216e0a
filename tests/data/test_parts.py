from pathlib import Path

import pytest
import torch

from classmates.data.parts import Split, mean_and_std, moments_of
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
