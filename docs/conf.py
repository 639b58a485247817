"""How the documentation is built: `tox -e docs`."""

import annpipes

project = "annpipes"
author = "The annpipes developers"
copyright = "The annpipes developers"
release = version = annpipes.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "annpipes"
html_show_sphinx = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

default_role = "py:obj"  # docstrings write `Loader`
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # 16_384 and 1e4 as they were typed
autodoc_mock_imports = [
    "lightning",
    "scvi",
    "accelerate",
    "transformers",
]  # frameworks that the documentation is built without
autodoc_type_aliases = {name: name for name in ["ArrayLike", "NDArray"]}
napoleon_google_docstring = False
napoleon_attr_annotations = False  # types stand in the signature

# Every reference of ours must resolve; these lead to other projects, which an offline build can't look up.
nitpick_ignore_regex = [
    (r"py:.*", r"(anndata|np|numpy|pandas|scipy|sklearn|scanpy|torch|collections|enum|os|typing)\..*"),
    (r"py:.*", r"DataLoader|Dataset|Tensor|ArrayLike|NDArray"),  # torch's and numpy's, by their short names
    (r"py:.*", r"Axes"),  # matplotlib's
    (r"py:.*", r"annpipes\.(plans|stages|running|stores|tools|transforms|messages)\..*"),  # internal, in signatures
    (r"py:.*", r"Rows|RowArray|Key|Transforms|Unknown|Form|Tail|GeneVersions|MissingGenes|IterDataPipe"),  # aliases
]


def _elsewhere_in_the_package(app, env, node, contnode):
    """What a docstring names: one of `annpipes.reports` names functions of `annpipes`, and the other way round."""
    for module in ("annpipes", "annpipes.reports"):
        target = f"{module}.{node['reftarget']}"
        found = env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)
        if found is not None:
            return found
    return None


def setup(app):
    app.connect("missing-reference", _elsewhere_in_the_package)
