"""Settings of Sphinx: `sphinx-build -W docs docs/_build`, with the `docs` extra installed."""

import importlib
import re
from pathlib import Path

import macurr

project = "macurr"
author = "macurr contributors"
copyright = "macurr contributors"
release = version = macurr.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "tables"]

html_theme = "furo"
html_title = "macurr"

default_role = "code"
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_use_rtype = False
napoleon_use_ivar = True

# Names that are loaded at their first use have to be there for autodoc to find them.
for _package in ("macurr.opponents", "macurr.training"):
    _module = importlib.import_module(_package)
    for _name in _module.__all__:
        setattr(_module, _name, getattr(_module, _name))


_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)
_TABLE = re.compile(r"^( *)(\|.*\| *\n(?: *\|.*\| *\n)+)", re.M)


def _block(language, text, indent):
    return f"{indent}.. code-block:: {language}\n\n" + re.sub(r"^(?=.)", "    ", text, flags=re.M)


def _to_restructured_text(app, what, name, obj, options, lines):
    """Docstrings hold code and tables as Markdown has them; autodoc reads reStructuredText."""
    text = "\n".join(lines) + "\n"
    text = _FENCED.sub(lambda m: _block(m[2] or "text", m[3], m[1]), text)
    text = _TABLE.sub(lambda m: _block("text", m[1] + m[2], m[1]), text)
    # What stands between two bars is no substitution, wherever it is not code.
    parts = re.split(r"(`[^`]*`|^ *\.\. code-block::.*?(?=^\S|\Z))", text, flags=re.M | re.S)
    text = "".join(part if i % 2 else part.replace("|", "\\|") for i, part in enumerate(parts))
    lines[:] = text.rstrip("\n").split("\n")


def _short_types(app, what, name, obj, options, signature, returns):
    """NumPy's array types by the names that they have in the source."""

    def short(text):
        text = (text or "").replace("~", "")
        text = re.sub(
            r"numpy\._typing[\w.]*_Buffer \|.*?_NestedSequence\[complex[ |\w]*\]", "ArrayLike", text
        )
        array = r"numpy\.ndarray\[tuple\[typing\.Any, \.\.\.\], numpy\.dtype\[(?:\w+\.)?(\w+)\]\]"
        return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=\w)", "", re.sub(array, r"NDArray[\1]", text))

    return short(signature) or None, short(returns) or None


def _complete_pages(app, docname, source):
    """A line for each name at the top of a reference page; no chapter of studies while there are none."""
    found = re.search(r"automodule:: (\S+)", source[0])
    if found:
        names = "".join(f"   ~{found[1]}.{name}\n" for name in importlib.import_module(found[1]).__all__)
        summary = f"```{{eval-rst}}\n.. autosummary::\n   :nosignatures:\n\n{names}```\n\n"
        source[0] = source[0].replace("```{eval-rst}", summary + "```{eval-rst}", 1)
    if docname == "index" and not any((Path(app.srcdir) / "studies").glob("*.md")):
        source[0] = source[0].partition("```{toctree}\n:hidden:\n:caption: Studies")[0]


def setup(app):
    app.connect("autodoc-process-docstring", _to_restructured_text)
    app.connect("autodoc-process-signature", _short_types)
    app.connect("source-read", _complete_pages)
