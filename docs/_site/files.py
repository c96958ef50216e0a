"""Links to files of the repository that are no pages: each is copied to where it lies, and opened, not downloaded."""

import os
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
REPORTS = "results"
"""What is copied whole, as its HTML reports link to the figures beside them."""


def open_files(app: Sphinx, doctree: nodes.document) -> None:
    """Make a plain link of every link to a file; a warning where there is none."""
    folder = Path(app.env.docname).parent
    for link in list(doctree.findall(download_reference)):
        target = os.path.normpath(folder / link["reftarget"])
        if not (Path(app.srcdir) / target).exists():
            logger.warning("no such file: %s", target, location=link)
            continue
        app.env.metadata[app.env.docname].setdefault("files", []).append(target)
        address = Path(os.path.relpath(target, folder)).as_posix()
        link.replace_self(nodes.reference("", "", *link.children, refuri=address, internal=True))


def copy_files(app: Sphinx, error: Exception | None) -> None:
    """Copy what pages link to, and the reports with their figures."""
    linked = {Path(name) for data in app.env.metadata.values() for name in data.get("files", [])}
    reports = {
        path.relative_to(app.srcdir) for path in (Path(app.srcdir) / REPORTS).rglob("*") if path.suffix != ".md"
    }
    for name in linked | reports:
        source, target = Path(app.srcdir) / name, Path(app.outdir) / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", open_files, priority=100)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True}
