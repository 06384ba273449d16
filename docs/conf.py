"""Sphinx configuration; the documentation is built against the installed wheel (make docs)."""

from importlib.metadata import version as installed_version

project = "ekfcore"
author = "the ekfcore developers"
copyright = f"2026, {author}"
version = release = installed_version("ekfcore")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_design",  # the cards of the first page
    "sphinx-mathjax-offline",  # formulas show without a network, too
]
exclude_patterns = ["_build", "experiments", "**/_*.md"]
templates_path = ["_templates"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc sections give type, shape and unit together
numpydoc_show_class_members = False  # autodoc lists them

html_theme = "pydata_sphinx_theme"
html_title = f"ekfcore {release}"
html_show_sourcelink = False
# the first page has cards for a list
html_sidebars = {"index": []}
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
