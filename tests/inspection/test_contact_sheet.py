import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data import load
from classmates.data.augmentation import Augmentation
from classmates.errors import UserError
from classmates.inspection.contact_sheet import MOST, augmented_batch, draw_contact_sheet


def test_the_batch_is_that_of_training_and_its_images_are_the_same_before_and_after():
    data = load("digits")
    indices, before, after = augmented_batch(data, Augmentation(), seed=3)
    assert len(indices) == MOST
    assert data.train.labels[indices].diff().min() >= 0
    torch.testing.assert_close(before, data.train.images[indices])
    # Shifted by up to one pixel: each image after is one of nine of the image before.
    padded = torch.nn.functional.pad(before[..., 0], (1, 1, 1, 1))
    shifts = torch.stack([padded[:, top : top + 8, left : left + 8] for top in range(3) for left in range(3)])
    matches = (shifts == after[..., 0]).flatten(2).all(dim=2).any(dim=0)
    assert matches.all()
    assert (after != before).any()
    *_, unchanged = augmented_batch(data, Augmentation(crop_padding=0, flip=False), seed=3)
    torch.testing.assert_close(unchanged, before)


@pytest.fixture
def photos(tmp_path):
    for shade, name in ((60, "cat"), (200, "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (80, 70 + number), (shade, number, 0)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_a_place_that_cannot_be_written_is_told():
    images = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"'/proc/x/sheet\.png' cannot be written"):
        draw_contact_sheet(images, images, ["cat"], Path("/proc/x/sheet.png"))


def test_streamed_images(photos):
    data = load(photos, val_fraction=0)
    indices, before, after = augmented_batch(data, Augmentation(), seed=0)
    assert before.shape == after.shape == (len(data.train), 128, 128, 3)
    shades = torch.tensor([60, 200])[data.train.labels[indices]]
    assert (before[:, 100, 100, 0] == shades).all()
    assert (after[:, 0, 0, 0] == shades).all()  # undoing the normalisation gives whole numbers back


@pytest.mark.parametrize("shape", [(1, 1), (64, 2), (2, 64)])
def test_images_of_any_shape(tmp_path, shape):
    images = torch.zeros(2, *shape, 1, dtype=torch.uint8)
    draw_contact_sheet(images, images, ["cat", "dog"], tmp_path / "sheet.png")
    assert max(Image.open(tmp_path / "sheet.png").size) < 2_000


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_shows_the_pixels(tmp_path, channels):
    before = torch.full((9, 6, 8, channels), 250, dtype=torch.uint8)
    after = torch.full_like(before, 3)
    path = tmp_path / "deeper" / "sheet.png"
    draw_contact_sheet(before, after, ["cat", "$dog$ ünï", "a" * 50] * 3, path)
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]
    sheet = np.asarray(Image.open(path).convert("L"))
    upper, lower = np.array_split(sheet, 2)
    assert (upper == 250).sum() > 20 * (lower == 250).sum()
    assert (lower == 3).sum() > 20 * (upper == 3).sum()
    assert (upper == 250).mean() > 0.25


def test_letters_that_no_font_has_are_no_warning(tmp_path):
    images = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        draw_contact_sheet(images, images, ["\u72d0", "\U00010480"], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").exists()
