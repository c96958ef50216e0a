"""Figures as SVG that takes on the page's colours."""

import warnings
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from classmates.reporting.figures import confusion_matrix
from classmates.reporting.theme import INK, styled, svg


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
