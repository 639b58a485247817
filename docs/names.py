"""What a page names: links to it, and types as a reader knows them."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.inspect import signature, stringify_signature

import annpipes

CLASSES = {
    name: f"{module.__name__}.{name}"
    for module in (annpipes.reports, annpipes.errors, annpipes)
    for name in module.__all__
    if name[0].isupper()  # `split` may be a parameter, `Loader` is none
}
VERBS = {
    name: getattr(annpipes, name).verb
    for name in annpipes.__all__
    if isinstance(getattr(annpipes, name), type) and issubclass(getattr(annpipes, name), annpipes.Stage)
}
LINKED = CLASSES | {
    verb: CLASSES[name] for name, verb in VERBS.items() if verb and verb != "transform"
}  # a parameter, too

ARRAY = re.compile(r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[(.+?)\]\]")
TRANSFORMS = re.compile(r"TypeAliasForwardRef\('Transforms'\)|\bTransforms\b")
ONE_OR_SEVERAL = "~annpipes.Transform | ~collections.abc.Callable | ~collections.abc.Sequence"


def forget_pages(app):
    """Pages of names that were public when the documentation was last built here."""
    folder = Path(app.srcdir)
    listed = {line.strip() for line in (folder / "api.md").read_text().splitlines()}
    for page in (folder / "api").glob("*.rst"):
        if page.stem.rpartition(".")[2] not in listed:
            page.unlink()


def link_classes(app, doctree):
    """Our classes, and the verbs of stages, are links where a page names one as code, and not in a title or a link."""
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext()
        if name in LINKED and not isinstance(literal.parent, nodes.title | nodes.reference | addnodes.pending_xref):
            what = {"refdomain": "py", "reftype": "obj", "reftarget": LINKED[name], "refexplicit": True}
            link = addnodes.pending_xref("", refdoc=app.env.docname, **what)
            literal.replace_self(link)
            link += literal


def tell_verb(app, what, name, obj, options, lines):
    """The docstring of a stage says how it is chained."""
    if what == "class" and (verb := VERBS.get(name.removeprefix("annpipes."))):
        lines[1:1] = ["", f"In a chain: ``.{verb}(…)``.", ""]


def read_types(app, what, name, obj, options, text, returned):
    """A signature whose types are those that a reader knows."""
    if what == "class" and name.startswith("annpipes.integrations."):
        # The mocked base class would answer for the constructor.
        own = signature(obj.__init__, bound_method=True, type_aliases=app.config.autodoc_type_aliases)
        text = stringify_signature(own, show_return_annotation=False, unqualified_typehints=True)
    return (_known(text), _known(returned)) if text else None


def _known(text):
    return text and TRANSFORMS.sub(ONE_OR_SEVERAL, ARRAY.sub(r"~numpy.typing.NDArray[\1]", text))


def spell_out(app, env, node, contnode):
    """What is named without its module: something of `annpipes`, of `annpipes.reports`, or of another project."""
    for module in ("annpipes", "annpipes.reports"):
        target = f"{module}.{node['reftarget']}"
        found = env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)
        if found is not None:
            return found
    node["reftype"] = "obj"  # a type may be anything: numpy's NDArray is data
    node["reftarget"] = app.config.spellings.get(node["reftarget"], node["reftarget"])
    return None


def lead_to_source(app, pagename, templatename, context, doctree):
    """The page of a public name is made of its docstring, so "edit this page" leads to that."""
    if pagename.startswith("api/") and app.config.html_theme_options.get("use_edit_page_button"):
        provider, url = context["get_edit_provider_and_url"]()
        address = url.replace(f"docs/{pagename}.rst", _source_of(pagename.removeprefix("api/")))
        context["get_edit_provider_and_url"] = lambda: (provider, address)


def _source_of(name):
    module, _, last = name.rpartition(".")
    if not module.startswith("annpipes.integrations."):  # whose frameworks are missing here
        module = getattr(import_module(module), last).__module__
    return str(Path(find_spec(module).origin).relative_to(Path(annpipes.__file__).parent.parent))


def setup(app):
    app.add_config_value("spellings", {}, "env")
    app.connect("builder-inited", forget_pages)
    app.connect("doctree-read", link_classes)
    app.connect("autodoc-process-docstring", tell_verb)
    app.connect("autodoc-process-signature", read_types)
    app.connect("html-page-context", lead_to_source, priority=501)  # between what finds the address and what shows it
    app.connect("missing-reference", spell_out, priority=400)  # intersphinx comes at 500
    return {"parallel_read_safe": True}
