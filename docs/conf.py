"""How the documentation is built: `tox -e docs`."""

import os
import re
import tomllib
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature

import annpipes

HERE = Path(__file__).parent
PACKAGE = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
LISTS = tomllib.loads((HERE / "lists.toml").read_text())

project = "annpipes"
author = "The annpipes developers"
copyright = "The annpipes developers"
release = version = annpipes.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]

html_theme = "sphinx_book_theme"
html_title = "annpipes"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_static_path = ["_static"]
html_css_files = ["annpipes.css"]
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

default_role = "py:obj"  # docstrings write `Loader`
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # 16_384 and 1e4 as they were typed
autodoc_mock_imports = ["lightning", "scvi"]  # frameworks that the documentation is built without
autodoc_type_aliases = {name: name for name in ["ArrayLike", "NDArray", "Transforms"]}
autosummary_context = {"shown": LISTS["members"]}  # what a page of `_templates/autosummary` shows of its class
napoleon_google_docstring = False
napoleon_attr_annotations = False  # types stand in the signature

# Read the Docs asks each project for its list of names; elsewhere, `inventories/` has those that our pages name.
_asked = [None] if "READTHEDOCS" in os.environ else []
intersphinx_mapping = {name: (url, (*_asked, f"inventories/{name}.txt")) for name, url in LISTS["projects"].items()}
# What has no page: torch documents no IterDataPipe any more, and some of our own classes are only handed on.
nitpick_ignore_regex = [
    ("py:class", r"torch\.utils\.data\.datapipes\.datapipe\.IterDataPipe"),
    ("py:class", r"annpipes\.(plans|running|stores)\..*|Rows"),
]


def _by_another_name(app, env, node, contnode):
    """What a docstring names without its module: one of `annpipes`, of `annpipes.reports`, or of another project."""
    for module in ("annpipes", "annpipes.reports"):
        target = f"{module}.{node['reftarget']}"
        found = env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)
        if found is not None:
            return found
    node["reftype"] = "obj"  # a type may be anything: numpy's NDArray is data
    node["reftarget"] = LISTS["spellings"].get(node["reftarget"], node["reftarget"])
    return None


_ARRAY = re.compile(r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[(.+?)\]\]")
_ONE_OR_SEVERAL = "~annpipes.Transform | ~collections.abc.Callable | ~collections.abc.Sequence"
_TRANSFORMS = re.compile(r"TypeAliasForwardRef\('Transforms'\)|\bTransforms\b")


def _as_it_is_read(app, what, name, obj, options, signature, returned):
    """Types in a signature as a reader knows them."""

    def read(text):
        text = text and _ARRAY.sub(r"~numpy.typing.NDArray[\1]", text)
        return text and _TRANSFORMS.sub(
            "~annpipes.Transform | ~collections.abc.Callable | ~collections.abc.Sequence", text
        )

    if what == "class" and name.startswith(
        "annpipes.integrations."
    ):  # the mocked base would answer for its constructor
        own = signature_of(obj.__init__, bound_method=True, type_aliases=autodoc_type_aliases)
        signature = stringify_signature(own, show_return_annotation=False, unqualified_typehints=True)
    return (read(signature), read(returned)) if signature else None


def _forget_pages(app):
    """Pages of names that were public when the documentation was last built here."""
    listed = {line.strip() for line in (HERE / "api.md").read_text().splitlines()}
    for page in (HERE / "api").glob("*.rst"):
        if page.stem.rpartition(".")[2] not in listed:
            page.unlink()


_OWN = {
    name: f"{module.__name__}.{name}"
    for module in (annpipes.reports, annpipes.errors, annpipes)
    for name in module.__all__
    if name[0].isupper()  # `split` may be a parameter, `Loader` is none
}


def _link_names(app, doctree):
    """Our classes are links wherever a page names one as code, and not in a title or a link already."""
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext()
        if name in _OWN and not isinstance(literal.parent, nodes.title | nodes.reference | addnodes.pending_xref):
            link = addnodes.pending_xref(
                "", reftype="obj", refdomain="py", reftarget=_OWN[name], refexplicit=True, refdoc=app.env.docname
            )
            literal.replace_self(link)
            link += literal


def setup(app):
    app.connect("builder-inited", _forget_pages)
    app.connect("doctree-read", _link_names)
    app.connect("autodoc-process-signature", _as_it_is_read)
    app.connect("missing-reference", _by_another_name, priority=400)  # intersphinx comes at 500
