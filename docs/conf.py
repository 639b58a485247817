"""How the documentation is built: `tox -e docs`."""

import os
import sys
import tomllib
from pathlib import Path

import annpipes

HERE = Path(__file__).parent
PACKAGE = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
sys.path.append(str(HERE))
LISTS = tomllib.loads((HERE / "lists.toml").read_text())

project = "annpipes"
author = "The annpipes developers"
copyright = "The annpipes developers"
release = version = annpipes.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "names",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]

html_theme = "sphinx_book_theme"
html_title = "annpipes"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_static_path = ["_static"]
html_favicon = "_static/logo.svg"
html_css_files = ["annpipes.css"]
html_js_files = [("search.js", {"defer": "defer"})]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_show_sphinx = False
html_sidebars = {"**": ["navbar-logo.html", "version.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_theme_options = {
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search stands in the sidebar
    "use_download_button": False,
    "use_fullscreen_button": False,
    "footer_content_items": "copyright.html",
}
# Until the sources are published, pyproject.toml has no address, and pages have no links to them.
if "Repository" in PACKAGE.get("urls", {}):
    html_theme_options |= {
        "repository_url": PACKAGE["urls"]["Repository"],
        "repository_branch": "main",
        "path_to_docs": "docs",
        "use_edit_page_button": True,
        "use_repository_button": True,
        "use_issues_button": True,
    }
copybutton_exclude = ".linenos, .gp, .go"  # prompts, and what a command printed

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Tutorials are executed by every build, each in a temporary folder and in a kernel of its own. That on scVI needs
# scvi-tools, which is large: its outputs are kept, and a test executes it.
nb_execution_mode = "force"
nb_execution_excludepatterns = ["tutorials/scvi.ipynb"]
nb_execution_in_temp = True
nb_execution_timeout = 120  # seconds for a cell
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
# Small models: on two cores, torch's threads mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

default_role = "py:obj"  # docstrings write `Loader`
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # 16_384 and 1e4 as they were typed
# Frameworks that the documentation is built without.
autodoc_mock_imports = ["lightning", "scvi", "accelerate", "transformers"]
autodoc_type_aliases = {name: name for name in ["ArrayLike", "NDArray", "Transforms"]}
autosummary_context = {"shown": LISTS["members"]}  # what a page of `_templates/autosummary` shows of its class
napoleon_google_docstring = False
napoleon_attr_annotations = False  # types stand in the signature

# Read the Docs asks each project for its list of names; elsewhere, `inventories/` has those that our pages name.
_asked = [None] if "READTHEDOCS" in os.environ else []
spellings = LISTS["spellings"]
intersphinx_mapping = {name: (url, (*_asked, f"inventories/{name}.txt")) for name, url in LISTS["projects"].items()}
# What has no page: torch documents no IterDataPipe any more, and some of our own classes are only handed on.
nitpick_ignore_regex = [
    ("py:class", r"(accelerate|transformers)\..*"),  # they publish no inventory that is kept here
    ("py:class", r"torch\.utils\.data\.datapipes\.datapipe\.IterDataPipe"),
    ("py:class", r"annpipes\.(plans|running|stores)\..*"),
]
