"""The XSDs of `schemas/`: found, compiled once and put to a document.

What the schemas promise is written in schemas/README.md.
"""

import importlib.resources
from functools import cache
from pathlib import Path
from threading import Lock, local
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
    """Return the compiled schema `name`, such as `invoice-messages/classic-list`.

    Any number of threads may put documents to it at once, but its `error_log` is everybody's.
    """
    with _compiling:
        return _compiled(name)


@cache
def _compiled(name: str) -> etree.XMLSchema:
    return _compile(name)


def _compile(name: str) -> etree.XMLSchema:
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


class _Parser(local):
    """A parser for each thread: one that is shared makes the others wait."""

    def __init__(self) -> None:
        self.trusting_nothing = etree.XMLParser(
            resolve_entities=False,
            load_dtd=False,
            no_network=True,
            huge_tree=True,  # a text of v2 may be long; its whole answer is bounded
            collect_ids=False,
            # Between elements, where every schema allows it. It saves a twelfth of the time.
            remove_blank_text=True,
        )


_parser = _Parser()


def is_valid(document: bytes, name: str) -> bool:
    """Tell whether `document`, in UTF-8, is well-formed and valid against the schema `name`."""
    try:
        return schema(name).validate(etree.fromstring(document, _parser.trusting_nothing))
    except etree.LxmlError:
        return False


def require_valid_document(document: bytes, name: str) -> None:
    """Make sure that `document`, in UTF-8, is well-formed and valid against the schema `name`.

    Raises:
        InvalidAnswer: it is not.
    """
    try:
        root = etree.fromstring(document, _parser.trusting_nothing)
    except etree.XMLSyntaxError as error:
        log: Any = error.error_log  # lxml-stubs knows nothing of it
        raise InvalidAnswer("document", log.last_error.type_name) from None
    require_valid(root, name)


def require_valid(root: etree._Element, name: str) -> None:
    """Make sure that `root` is valid against the schema `name`.

    Raises:
        InvalidAnswer: it is not. Carries the element's path and the rule, not the value.
    """
    if not schema(name).validate(root):
        raise _refusal(root, name)


_explaining = Lock()
_explainers: dict[str, etree.XMLSchema] = {}


def _refusal(root: etree._Element, name: str) -> InvalidAnswer:
    """Say what is wrong with `root`: by schemas of its own, that nobody else clears the log of."""
    with _explaining:
        if name not in _explainers:
            with _compiling:
                _explainers[name] = _compile(name)
        explainer = _explainers[name]
        explainer.validate(root)
        log: Any = explainer.error_log  # lxml-stubs knows nothing of it
        return InvalidAnswer(log[0].path or root.tag, log[0].type_name)
