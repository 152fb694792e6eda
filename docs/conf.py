"""How Sphinx builds the site: ``make docs``. Nothing is read from a network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from snnc import __version__  # noqa: E402 - the checkout's, wherever Sphinx runs

project = "snnc"
author = "The snnc developers"
copyright = "The snnc developers, Apache-2.0"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_parts.pages", "_parts.mathml"]
exclude_patterns = ["_parts", "README.md"]
html_theme = "furo"
html_title = f"snnc {__version__}"
html_static_path = ["_static"]
html_css_files = ["snnc.css"]
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_double_inline = True
myst_heading_anchors = 3
myst_update_mathjax = False

# Notebooks run with every build: what they show is what this version computes.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_merge_streams = True
nb_ipywidgets_js = {}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# The site is built without torch: classes of snnc.nn and snnc.train are read, not run.
autodoc_mock_imports = ["torch"]
autodoc_default_options = {"members": True, "imported-members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [
    ("Source", "notes_style"), ("Matches", "notes_style"), ("Leaves alone", "notes_style"),
    ("Keeps", "notes_style"),
]  # fmt: skip
default_role = "literal"
pygments_style = "friendly"
