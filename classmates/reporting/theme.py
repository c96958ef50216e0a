"""The style of all figures: palette, matplotlib settings, and SVG that takes on the colours of the page around it."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import MaxNLocator

from classmates._files import whole_file, write_text

# Okabe and Ito's colours for lines: told apart by colour-blind readers, seen on white and on black.
BLUE, VERMILION = "#0072B2", "#D55E00"
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Petroff's ten (arXiv 2107.02270) for points, where classes need more.
TEN = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadb",
)
MARKERS = "o^s"
MOST_CLASSES_TOLD_APART = len(TEN) * len(MARKERS)
INK = "#010203"  # stands for the page's text colour until `svg` puts that in
WIDTH = 7.2  # inches: the page's text column

OTHER_SCRIPTS = ("Noto Sans CJK JP", "Source Han Sans", "WenQuanYi Zen Hei", "Hiragino Sans", "Microsoft YaHei")
FONTS = ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in fontManager.get_font_names())]
"""The first comes with matplotlib: the same layout everywhere. The others, where there are, have letters it lacks."""

STYLE = {
    "font.family": FONTS,
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,  # of the parts drawn as pixels
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$10 or $20"
    "svg.fonttype": "none",  # text stays text: searchable, in the page's font, in any script
    "svg.hashsalt": "classmates",  # the same figure gives the same file
}
styled = style.context(["default", STYLE])


# Of a drawing that stands alone: dark on light, or light on dark where the reader's system asks for it.
ALONE = "<style>svg { color: #1c1d20 } @media (prefers-color-scheme: dark) { svg { color: #e6e4de } }</style>"


@styled
def svg(figure: Figure, prefix: str) -> str:
    """Return ``figure`` as an <svg> element to put into a page: its ids start with ``prefix``, ink is the page's."""
    file = io.StringIO()
    with missing_letters_unsaid():
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawing = file.getvalue()
    return re.sub(r"<[^>]+>", lambda tag: _adapted(tag[0], prefix), drawing[drawing.index("<svg") :])


@styled
def save(figure: Figure, stem: Path) -> str:
    """Write ``stem``.svg, readable on light and on dark pages, and ``stem``.png, on white; return the element."""
    drawing = svg(figure, stem.name)
    end_of_tag = drawing.index(">") + 1
    write_text(stem.with_name(f"{stem.name}.svg"), drawing[:end_of_tag] + ALONE + drawing[end_of_tag:])
    with whole_file(stem.with_name(f"{stem.name}.png")) as path, missing_letters_unsaid():
        figure.savefig(path, format="png", facecolor="white")
    return drawing


@contextmanager
def missing_letters_unsaid() -> Iterator[None]:
    """Silence warnings of letters that matplotlib's fonts lack: in a page the browser draws them, elsewhere a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _adapted(tag: str, prefix: str) -> str:
    return re.sub(r'( id="|href="#|url\(#)', rf"\1{prefix}-", tag).replace(INK, "currentColor")


def line_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour and dashes by name, no two alike: six colours, then the same ones with other dashes."""
    colours = (BLUE, VERMILION, *OTHERS)
    return {
        name: {"color": colours[number % len(colours)], "linestyle": dashes(number // len(colours))}
        for number, name in enumerate(names)
    }


def dashes(number: int) -> str | tuple[int, tuple[int, ...]]:
    """Return the dashes of a number: solid, dashed, dotted, then a dash and one dot, two dots, ..."""
    usual = ("solid", "dashed", "dotted")
    return usual[number] if number < len(usual) else (0, (7, 2, *(1, 2) * (number - len(usual) + 1)))


def shape(number: int) -> str | tuple[int, int, int]:
    """Return the marker of a number: circle, triangle, square, then other ones, then stars of ever more points."""
    usual = f"{MARKERS}DvPX<>*"
    return usual[number] if number < len(usual) else (number - len(usual) + 6, 1, 0)


def dots(epochs: Sized) -> dict[str, Any]:
    """Return markers for a line of few points: a single epoch is a dot or nothing."""
    return {"marker": "o", "markersize": 3} if len(epochs) <= 15 else {}


def legend_below(figure: Figure, handles: Sequence[Artist], names: Sequence[str], **style: Any) -> None:
    """Put a legend below, in as many columns as fit, and make the figure as much higher as it takes."""
    columns = max(1, min(len(names), 100 // (8 + max(map(len, names)))))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.18 * (-(-len(names) // columns) - 1))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, **style)


def count_epochs(axes: Axes) -> None:
    """Label the horizontal axis with whole epochs."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def shortened(name: str, longest: int = 24) -> str:
    """Return a name cut to ``longest`` letters."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
