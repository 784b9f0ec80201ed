"""The XSDs of `schemas/`: found, compiled once and put to a document.

What the schemas promise is written in schemas/README.md.
"""

import importlib.resources
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from lxml import etree

from bridge.v1.errors import InvalidAnswer


def schema_directory() -> Path:
    """Return the folder of the XSDs: inside the installed package, or beside it in a checkout."""
    package = Path(str(importlib.resources.files("bridge")))
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


# libxml2 makes its own types with the first schema that it compiles, and two threads that do so at
# the same time spoil them: from then on, no schema can be compiled in the process.
_compiling = Lock()


def schema(name: str) -> etree.XMLSchema:
    """Return the compiled schema `name`, such as `invoice-messages/classic-list`."""
    with _compiling:
        return _compiled(name)


@cache
def _compiled(name: str) -> etree.XMLSchema:
    # Parsed from its path, so that libxml2 finds the xs:includes beside it.
    return etree.XMLSchema(etree.parse(schema_directory() / f"{name}.xsd"))


def compile_all() -> None:
    """Compile every schema there is, so that the first calls need not wait for it.

    Raises:
        etree.XMLSchemaParseError: one of them is no schema.
    """
    directory = schema_directory()
    for path in sorted(directory.rglob("*.xsd")):
        if not path.name.endswith("types.xsd"):
            schema(path.relative_to(directory).with_suffix("").as_posix())


def require_valid(root: etree._Element, name: str) -> None:
    """Make sure that `root` is valid against the schema `name`.

    Raises:
        InvalidAnswer: it is not. Carries the element's path and the rule, not the value.
    """
    compiled = schema(name)
    if not compiled.validate(root):
        log: Any = compiled.error_log  # lxml-stubs knows nothing of it
        error = log[0]
        raise InvalidAnswer(error.path or root.tag, error.type_name)
