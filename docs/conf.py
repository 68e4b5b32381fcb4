"""Sphinx configuration; `make docs` builds the site into build/docs."""

import inspect
import logging
import os
import shutil
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from sphinx.ext import napoleon

from sgdr_jax.core.field_docs import Documented, FieldDocs

BUILD = Path(__file__).parent.parent / "build"

# Code cells run the `sgdr-jax` beside this interpreter, without colours, and touch neither caches nor IPython profile of a user.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["XDG_CACHE_HOME"] = str(BUILD / "docs-cache")
os.environ["IPYTHONDIR"] = str(BUILD / "docs-ipython")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TTY_COMPATIBLE"] = "0"
os.environ["COLUMNS"] = "88"

profile = BUILD / "docs-ipython" / "profile_default"
(profile / "startup").mkdir(parents=True, exist_ok=True)
shutil.copy(Path(__file__).with_name("kernel_startup.py"), profile / "startup")
# Otherwise every kernel warns that its connection to this process is not encrypted.
(profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n", encoding="utf-8")
logging.getLogger("traitlets").setLevel(logging.WARNING)

project = "sgdr_jax"
copyright = "the sgdr_jax authors"
release = installed_version("sgdr_jax")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["**.ipynb_checkpoints"]

html_theme = "furo"
html_theme_options = {"light_css_variables": {"code-font-size": "75%"}}
html_title = f"sgdr_jax {release}"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_execution_timeout = 600  # seconds a cell; compiling a network takes minutes on a busy machine

# The docstring of a field is a sentence; napoleon takes what comes before a colon in it for its type.
_process_docstring = napoleon._process_docstring
napoleon._process_docstring = lambda app, what, *given: None if what in ("attribute", "property") else _process_docstring(app, what, *given)

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
default_role = "code"


def setup(app: Any) -> None:
    """Describe a field once: in the docstring of its class where it is that of a named tuple, else by its own."""

    def skip_member(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool:
        return skip or (obj.__doc__ or "").startswith("Alias for field")

    def without_fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        doc = vars(obj).get("__doc__") if what == "class" else None
        if isinstance(doc, FieldDocs):
            lines[:] = [*inspect.cleandoc(doc.text).splitlines(), ""]

    def without_documented(app: Any, name: str, obj: Any, options: Any, bases: list[type]) -> None:
        bases[:] = [object if base is Documented else base for base in bases]

    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-bases", without_documented)
    app.connect("autodoc-process-docstring", without_fields, priority=400)  # before napoleon
