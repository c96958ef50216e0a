"""Figures as SVG that takes on the page's colours."""

import warnings
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from classmates.reporting.figures import confusion_matrix
from classmates.reporting.theme import INK, line_styles, save, shape, styled, svg


def drawing(names: list[str], prefix: str = "one") -> str:
    return svg(confusion_matrix(np.eye(len(names), dtype=int), names), prefix)


def test_svg_is_one_element_whose_ids_are_its_own() -> None:
    text = drawing(["cat", "dog"])
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(one.startswith("one-") for one in ids)
    assert "url(#" in text
    assert text.count("url(#") == text.count("url(#one-")


def test_ink_is_the_colour_of_the_page() -> None:
    text = drawing(["cat", "dog"])
    assert "currentColor" in text
    assert INK not in text


def test_names_stay_what_they_are() -> None:
    names = ["<script>x</script>", "$a$ & $b$", 'id="#010203"', "_hidden", "漢字"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        root = ElementTree.fromstring(drawing(names))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert all(texts.count(name) == 2 for name in names)  # one on each axis


def test_no_two_lines_look_alike() -> None:
    names = [f"row {n}" for n in range(60)]
    styles = line_styles(names)
    assert list(styles) == names
    assert len({(style["color"], style["linestyle"]) for style in styles.values()}) == 60
    axes = Figure().subplots()
    for style in styles.values():
        axes.plot([0, 1], [0, 1], **style)
    for number in range(20):
        axes.plot(0, 0, marker=shape(number))
    assert len({shape(number) for number in range(20)}) == 20


def test_the_same_figure_gives_the_same_file() -> None:
    assert drawing(["cat", "dog"]) == drawing(["cat", "dog"])


def test_the_users_matplotlib_settings_neither_leak_in_nor_are_changed() -> None:
    before = drawing(["cat", "dog"])
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30}):
        assert drawing(["cat", "dog"]) == before
        assert mpl.rcParams["font.size"] == 30

    @styled
    def size() -> float:
        return Figure().text(0, 0, "a").get_fontsize()

    assert size() == 9


def test_a_saved_figure_can_be_read_on_any_page(tmp_path: Path) -> None:
    element = save(confusion_matrix(np.eye(2, dtype=int), ["cat", "dog"]), tmp_path / "figures" / "a.b")
    text = (tmp_path / "figures" / "a.b.svg").read_text("utf-8")
    root = ElementTree.fromstring(text)
    style = root[0].text or ""
    assert root[0].tag.endswith("style")
    assert "prefers-color-scheme: dark" in style
    assert element == text.replace(f"<style>{style}</style>", "")
    pixels = np.asarray(Image.open(tmp_path / "figures" / "a.b.png").convert("RGBA"))
    np.testing.assert_array_equal(pixels[0, 0], [255, 255, 255, 255])
