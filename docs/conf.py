"""The documentation site, made by ``make docs``. Its source is the whole repository, as links lead all over it."""

import sys
from pathlib import Path

import classmates

sys.path.insert(0, str(Path(__file__).parent / "_site"))

project = "classmates"
author = copyright = "classmates developers"
release = classmates.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference", "files"]
root_doc = "docs/index"
include_patterns = ["docs/**", "results/**", "*.md"]
exclude_patterns = ["**/_*", ".*"]

myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a table that a program wrote begins with a heading of the second level

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "classmates"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_extra_path = ["_site/root"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
