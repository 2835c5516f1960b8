"""Configuration of Sphinx."""

import importlib.metadata
import os

project = "halopy"
author = "The halopy developers"
copyright = author
release = importlib.metadata.version("halopy-radio")
version = release

extensions = [
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_automodapi.automodapi",
    "sphinx_automodapi.smart_resolver",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
]

# Without network, as on CI, a mapping that cannot be fetched would be a warning.
intersphinx_mapping = {} if os.environ.get("CI") else {
    "python": ("https://docs.python.org/3/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "astropy": ("https://docs.astropy.org/en/stable/", None),
    "photutils": ("https://photutils.readthedocs.io/en/stable/", None),
    "matplotlib": ("https://matplotlib.org/stable/", None),
}

exclude_patterns = ["_build"]
default_role = "obj"
automodapi_toctreedirnm = "api"
automodapi_inheritance_diagram = False
automodsumm_inherited_members = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

plot_formats = [("png", 110)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = True

html_theme = "pydata_sphinx_theme"
html_title = f"halopy {release}"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
# Outside the reference all pages are on one level: the column on the left would be empty.
html_sidebars = {"*": []}
