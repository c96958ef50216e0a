"""How the figures look, and how they take on the page's colours: palette, matplotlib style, SVG for inside a page."""

from __future__ import annotations

import io
import re
import warnings

from matplotlib import style
from matplotlib.figure import Figure

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
DASHES = ("solid", "dashed", "dotted")
INK = "#010203"  # stands for the page's text colour until `svg` puts that in
WIDTH = 7.2  # inches: the page's text column

STYLE = {
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
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


@styled
def svg(figure: Figure, prefix: str) -> str:
    """``figure`` as an <svg> element to put into a page: its ids start with ``prefix``, ink is the page's."""
    file = io.StringIO()
    with warnings.catch_warnings():
        # Letters that matplotlib's font lacks are drawn by the browser, with a font that has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawing = file.getvalue()
    return re.sub(r"<[^>]+>", lambda tag: _adapted(tag[0], prefix), drawing[drawing.index("<svg") :])


def _adapted(tag: str, prefix: str) -> str:
    return re.sub(r'( id="|href="#|url\(#)', rf"\1{prefix}-", tag).replace(INK, "currentColor")
