from functools import partial
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data.readers.images import check, check_all, convert, decode, for_all, stack, unreadable
from classmates.data.readers.opening import UnreadableImage, opened
from classmates.data.resizing import fit
from classmates.errors import UserError


@pytest.fixture
def save(tmp_path):
    def save(image, name="image.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.tif", "image.webp"])
def test_an_image_that_is_open_can_be_given_to_many_threads(save, name):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = save(Image.fromarray(pixels), name, exif=exif)
    expected = np.asarray(decode(path, 3))
    for _ in range(5):
        images = [Image.open(path)] * 16  # whose pixels are still to be read
        with ThreadPool(8) as pool:
            for found in pool.imap(partial(decode, channels=3), images):
                assert np.array_equal(np.asarray(found), expected)


def grey_of(red, green, blue):
    return round(0.299 * red + 0.587 * green + 0.114 * blue)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_and_grey(save, channels):
    colour = decode(save(Image.new("RGB", (4, 2), (200, 100, 50))), channels)
    assert colour.mode == ("L" if channels == 1 else "RGB")
    assert colour.size == (4, 2)
    assert colour.getpixel((3, 1)) == (grey_of(200, 100, 50) if channels == 1 else (200, 100, 50))
    grey = decode(save(Image.new("L", (4, 2), 77)), channels)
    assert grey.getpixel((0, 0)) == (77 if channels == 1 else (77, 77, 77))
    black_and_white = decode(save(Image.new("1", (4, 2), 1)), channels)
    assert black_and_white.getpixel((0, 0)) == (255 if channels == 1 else (255, 255, 255))


def test_transparency_is_put_on_white(save):
    image = Image.new("RGBA", (2, 1), (200, 100, 0, 255))
    image.putpixel((1, 0), (200, 100, 0, 51))  # a fifth of it
    shown = decode(save(image), 3)
    assert shown.getpixel((0, 0)) == (200, 100, 0)
    assert shown.getpixel((1, 0)) == (244, 224, 204)
    assert decode(save(Image.new("LA", (1, 1), (100, 51))), 1).getpixel((0, 0)) == 224


def test_a_palette_gives_its_colours_and_its_transparent_one_white(save):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0])
    image.putdata([0, 1, 2])
    assert [decode(save(image), 3).getpixel((x, 0)) for x in range(3)] == [(10, 20, 30), (200, 100, 50), (0, 0, 0)]
    see_through = decode(save(image, transparency=2), 3)
    assert [see_through.getpixel((x, 0)) for x in range(3)] == [(10, 20, 30), (200, 100, 50), (255, 255, 255)]


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_sixteen_bits_are_scaled_not_cut(save, name):
    values = np.array([[0, 257, 128 * 257, 65535, 300, 40000]], dtype=np.uint16)
    path = save(Image.fromarray(values), name)
    assert np.asarray(decode(path, 1)).tolist() == [[0, 1, 128, 255, 1, 156]]
    assert np.asarray(decode(path, 3))[0, 5].tolist() == [156, 156, 156]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("zero", ["black", "white"])
def test_a_tiff_says_whether_zero_is_white(save, bits, zero):
    ramp = np.linspace(0, 2**bits - 1, 6).astype(f"uint{bits}")[None].repeat(2, 0)
    stored = ramp if zero == "black" or bits == 8 else 2**bits - 1 - ramp  # Pillow turns 8 bits itself, also to save
    path = save(Image.fromarray(stored), "xray.tif", tiffinfo={262: int(zero == "black")})
    assert np.asarray(decode(path, 1))[0].tolist() == [0, 51, 102, 153, 204, 255]
    found = check(path, 1)
    assert found.pixels[0, :, 0].tolist() == [0, 51, 102, 153, 204, 255]
    assert found.highest == (65535 if bits == 16 else 0)


def test_pixels_without_an_agreed_meaning_are_refused(save):
    with pytest.raises(ValueError, match="from 0 to 70000, beyond 16 bits"):
        convert(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), 1)
    path = save(Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32)), "floats.tif")
    with pytest.raises(UnreadableImage, match=r"floats.tif: its pixels are floating-point"):
        decode(path, 1)


def test_cmyk(save):
    path = save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "red.jpg", quality=100)
    assert np.abs(np.asarray(decode(path, 3)).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize(("orientation", "red_at"), [(1, (0, 0)), (2, (2, 0)), (3, (2, 1)), (6, (1, 0)), (8, (0, 2))])
@pytest.mark.parametrize("name", ["image.png", "image.tif", "image.webp"])
def test_exif_rotation_is_applied(save, orientation, red_at, name):
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(image, name, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
    upright = decode(path, 3)
    assert upright.size == ((2, 3) if orientation >= 5 else (3, 2))
    assert upright.getpixel(red_at) == (255, 0, 0)
    assert check(path, 3).size == upright.size


@pytest.mark.parametrize(("orientation", "red_at"), [(1, (4, 4)), (3, (59, 27)), (6, (27, 4)), (8, (4, 59))])
def test_photos_of_phones_are_turned_too(save, orientation, red_at):
    image = Image.new("RGB", (64, 32), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(image, "IMG_1.HEIC", exif=exif.tobytes(), quality=100)
    upright = decode(path, 3)
    assert upright.size == check(path, 3).size == ((32, 64) if orientation >= 5 else (64, 32))
    assert np.abs(np.asarray(upright.getpixel(red_at)) - (255, 0, 0)).max() < 16


@pytest.mark.parametrize("name", ["large.jpg", "large.tif"])
def test_a_large_turned_image_is_measured_upright(save, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.new("RGB", (1000, 600)), name, exif=exif)
    assert check(path, 3).size == decode(path, 3).size == (600, 1000)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
@pytest.mark.parametrize("side", [40, 600])
def test_a_truncated_image_is_found_and_named(save, name, side):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(UnreadableImage, match=f"cannot read the image .*{name}: "):
        decode(path, 3)
    assert name in str(check(path, 3))
    assert isinstance(check(path, 3), UnreadableImage)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "note.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"note\.png"):
        decode(path, 3)
    with pytest.raises(UnreadableImage, match=r"gone\.png"):
        decode(tmp_path / "gone.png", 3)


def test_check_measures_what_decode_gives(save):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    found = check(save(Image.fromarray(pixels)), 3)
    assert found.size == (7, 5)
    assert not found.grey
    values = pixels.reshape(-1, 3) / 255
    np.testing.assert_allclose(found.moments, [values.mean(0), (values**2).mean(0)])
    grey = check(save(Image.new("LA", (2, 2), (0, 255))), 1)
    assert grey.grey
    np.testing.assert_allclose(grey.moments, [[0], [0]])


def test_a_large_jpeg_is_checked_at_a_fraction_of_its_size_but_measured_in_full(save):
    ramp = np.linspace(0, 255, 1200).astype(np.uint8)
    path = save(Image.fromarray(np.tile(ramp, (900, 1))), "large.jpg")
    found = check(path, 1)
    assert found.size == (1200, 900)
    np.testing.assert_allclose(found.moments[0], ramp.mean() / 255, atol=2e-3)
    np.testing.assert_allclose(found.moments[1], ((ramp / 255) ** 2).mean(), atol=2e-3)


def test_many_files_keep_their_order(save, tmp_path):
    paths = [save(Image.new("L", (3, 2), shade), f"{shade}.png") for shade in range(40)]
    paths.insert(7, tmp_path / "missing.png")
    checks, _ = check_all(paths, 1)
    assert (~checks.readable).nonzero().tolist() == [[7]]
    assert all(not column[7].any() for column in checks)
    [error] = unreadable(paths, checks, 1)
    assert "missing.png" in str(error)
    checks = checks.take(checks.readable)
    assert checks.sizes.tolist() == [[3, 2]] * 40
    assert checks.grey.all()
    assert (checks.frames == 1).all()
    np.testing.assert_allclose(checks.moments[:, 0, 0] * 255, range(40))
    del paths[7]
    _, images = check_all(paths, 3)
    assert images.shape == (40, 2, 3, 3)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert images[:, 1, 2, 0].tolist() == list(range(40))


def test_for_all_keeps_the_order_of_more_than_are_under_way_at_once(monkeypatch):
    monkeypatch.setattr("classmates.data.readers.images.AT_ONCE", 100)
    assert list(for_all(lambda index: index * 2, 1050, "doubling")) == list(range(0, 2100, 2))


@pytest.mark.parametrize("name", ["film.gif", "film.webp", "film.png", "pages.tif"])
def test_of_several_frames_the_first_is_the_image(save, name):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    path = save(frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
    assert np.asarray(decode(path, 3)).reshape(-1, 3).tolist() == [[255, 0, 0]] * 200
    assert check(path, 3).frames == 3
    np.testing.assert_allclose(check(path, 3).moments[0], [1, 0, 0])


def test_one_pixel(save):
    path = save(Image.new("RGB", (1, 1), (10, 20, 30)))
    assert check(path, 3).size == (1, 1)
    assert check_all([path], 3)[1].tolist() == [[[[10, 20, 30]]]]
    assert check_all([path], 3, (5, 4))[1].reshape(-1, 3).tolist() == [[10, 20, 30]] * 20


def test_a_decompression_bomb_is_refused(tmp_path, bomb):
    huge = tmp_path / "huge.png"
    huge.write_bytes(bomb)
    words = r"huge\.png: .*900000000 pixels.* set the environment variable CLASSMATES_MAX_IMAGE_PIXELS higher"
    with pytest.raises(UnreadableImage, match=words):
        decode(huge, 1)
    assert "900000000 pixels" in str(check(huge, 1))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_is_an_error_where_pillow_only_warns(save, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = save(Image.new("L", (11, 10)), "large.png")
    with pytest.raises(UnreadableImage, match=r"large\.png: .*110 pixels.* limit of 100 pixels"):
        decode(path, 1)
    assert decode(save(Image.new("L", (10, 10)), "small.png"), 1).size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # what Pillow knows as no limit
    assert decode(path, 1).size == (11, 10)


def test_the_limit_can_be_moved_and_is_pillows_own_elsewhere(tmp_path, bomb, monkeypatch):
    huge, before = tmp_path / "huge.png", Image.MAX_IMAGE_PIXELS
    huge.write_bytes(bomb)
    monkeypatch.setenv("CLASSMATES_MAX_IMAGE_PIXELS", "1000000000")
    with opened(huge) as image, ThreadPool(2) as pool:
        assert image.size == (30_000, 30_000)
        assert pool.map(size_of, [huge] * 20) == [(30_000, 30_000)] * 20
        assert size_of(huge) == (30_000, 30_000)
    assert before == Image.MAX_IMAGE_PIXELS
    with pytest.raises(Image.DecompressionBombError):
        Image.open(huge)
    monkeypatch.setenv("CLASSMATES_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(UserError, match="CLASSMATES_MAX_IMAGE_PIXELS is 'many'; give a number"):
        size_of(huge)


def size_of(path):
    with opened(path) as image:
        return image.size


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UnreadableImage, match=r"link\.png: it is a link to .*gone\.png, which does not exist"):
        decode(tmp_path / "link.png", 3)


def test_fit_scales_to_fill_and_takes_the_middle():
    image = Image.new("RGB", (30, 10), (255, 0, 0))
    image.paste((0, 0, 255), (10, 0, 20, 10))  # the middle third
    fitted = fit(image, (5, 5))
    assert fitted.size == (5, 5)
    assert fitted.getpixel((2, 2)) == (0, 0, 255)
    same = fit(image, (10, 30))
    assert same is image
    for height, width in [(1, 1), (7, 13), (50, 20)]:
        assert fit(image, (height, width)).size == (width, height)


def test_stack_of_grey_images_has_a_channel():
    assert stack([Image.new("L", (3, 2), 9)] * 4).shape == (4, 2, 3, 1)
