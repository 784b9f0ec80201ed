"""The calls of a resource, and from a method and a path to the call that serves it."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bridge.resources.flow import Flow, Look
from bridge.resources.table import Collection, Entity, Given
from bridge.v1.dialects import Dialect
from bridge.v1.errors import MethodNotAllowed, NotFound, NotTranslated
from bridge.v1.notes import NoteCode, Notes
from bridge.v1.paths import Shape, anonymous, covers, segments, shape, template
from bridge.v1.wire import V1Request


@dataclass(frozen=True, slots=True)
class Call:
    """One legacy call: where it is found and the flow that serves it."""

    name: str
    method: str
    path: str
    """With ids in braces, such as `/invoice/{invoice_id}/messages`."""
    dialect: Dialect
    flow: Callable[[V1Request], Flow]
    parameters: frozenset[str] = frozenset()
    """Those of the query that it reads."""
    json_flow: Callable[[V1Request], Flow] | None = None
    """Serves who takes JSON and no XML; None: nothing does."""
    tells_host: bool = False
    """Whether its answer says which host was called."""
    asks_v2: bool = True
    """Whether its flow may make v2 calls. If not, it is served whatever else is under way."""
    shows: Entity | None = None
    """What its answer holds, one of them or a list; None: nothing."""
    takes: tuple[Given, ...] = ()
    """The elements that its body may hold."""

    def read_query(self, query: Mapping[str, str], notes: Notes) -> dict[str, str]:
        """Return what the call reads of a query, and note the names of all else."""
        if not query:
            return {}
        for name in query:
            if name not in self.parameters:
                notes.add(NoteCode.PARAMETER_IGNORED, name if _PLAIN_NAME.fullmatch(name) else "…")
        return {name: text for name, text in query.items() if name in self.parameters}


_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z_-]{0,30}")
"""No digit is in it: a token that lost its name is none of what a log may know."""

_JSON = ".json"

Paths = Sequence[tuple[str, Dialect]]
"""Paths with ids in braces, and the dialect of each."""


def calls(  # noqa: PLR0913 - a row of a resource's table
    name: str,
    method: str,
    paths: Paths,
    flow: Callable[[V1Request], Flow],
    parameters: Iterable[str] = (),
    *,
    shows: Entity | None = None,
    takes: tuple[Given, ...] = (),
) -> tuple[Call, ...]:
    """Return the same call on each of these paths."""
    known = frozenset(parameters)
    return tuple(
        Call(name, method, path, dialect, flow, known, shows=shows, takes=takes)
        for path, dialect in paths
    )


def below(paths: Paths, segment: str) -> Paths:
    """Return the paths that have one more segment."""
    return tuple((f"{path}/{segment}", dialect) for path, dialect in paths)


INVOICES: Paths = (
    ("/invoice/{invoice_id}", Dialect.CLASSIC),
    ("/invoices/{invoice_id}", Dialect.FINAL),
)
"""The spelling of an invoice tells the dialect (schemas/README.md, "Dialects")."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A part of v1 that the bridge translates."""

    name: str
    calls: tuple[Call, ...]
    successor: str
    """The v2 path that takes the resource's place, with the same ids in braces."""
    collection: Collection | None = None
    """What is listed; None: nothing is."""
    look: Look | None = None
    """How to find what a write of this resource made; None: it has no writes."""


V1_ROOTS = {
    "account": "account",
    "clients": "client",
    "contacts": "contact",
    "projects": "project",
    "tasks": "task",
    "people": "person",
    "expenses": "expense",
    "expense_categories": "expense_category",
    "invoices": "invoice",
    "invoice_item_categories": "invoice_item_category",
    "daily": "daily",
    "reports": "report",
}
"""The first segments of the paths that v1 documented, and how they are spelled of one thing: as v1
did in 2008, and clients may anywhere."""

_ROOTS = frozenset(V1_ROOTS) | frozenset(V1_ROOTS.values())


def is_v1s(path: str) -> bool:
    """Tell whether a percent-encoded path lies under a root of v1, in either spelling."""
    return _parts(path, Notes())[0][0] in _ROOTS


def path_for_a_log(path: str) -> str:
    """Return a percent-encoded path with all that is no plain word replaced."""
    return anonymous(_parts(path, Notes())[0])


def _parts(path: str, notes: Notes) -> tuple[tuple[str, ...], bool]:
    """Return the segments of a path, and whether it has the suffix that asked v1 for JSON."""
    parts = segments(path, notes)
    if parts[-1].endswith(_JSON):
        return (*parts[:-1], parts[-1].removesuffix(_JSON)), True
    return parts, False


class Match(NamedTuple):
    """A call that was found, and the ids in its path."""

    resource: Resource
    call: Call
    ids: dict[str, int]
    wants_json: bool
    """Whether the path has the suffix that asked v1 for JSON."""


_ByMethod = dict[str, tuple[Resource, Call]]


class Router:
    """The paths of all resources."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        """Gather the calls of `resources` by path."""
        by_path: defaultdict[str, _ByMethod] = defaultdict(dict)
        for resource in resources:
            for call in resource.calls:
                by_path[call.path][call.method] = (resource, call)
                if call.method == "GET":
                    by_path[call.path]["HEAD"] = (resource, call)
        self._by_shape: dict[Shape, tuple[tuple[str, ...], _ByMethod]] = {}
        for path, by_method in by_path.items():
            found, names = template(path)
            self._by_shape[found] = (names, by_method)

    def match(self, method: str, path: str, notes: Notes) -> Match:
        """Find the call for `method` on a percent-encoded `path` (schemas/README.md, "Paths").

        HEAD finds the call of GET.

        Raises:
            NotFound: nothing is there, or a segment that should be an id is none.
            MethodNotAllowed: the path is known, but not with this method.
            NotTranslated: the path is one of v1's that the bridge does not serve.
        """
        parts, wants_json = _parts(path, notes)
        found, ids = shape(parts)
        if entry := self._by_shape.get(found):
            names, by_method = entry
            if call := by_method.get(method):
                return Match(*call, dict(zip(names, ids, strict=True)), wants_json)
            _, known = next(iter(by_method.values()))
            raise MethodNotAllowed(method, tuple(sorted(by_method)), known.path)
        if parts[0] in _ROOTS and not any(covers(each, parts) for each in self._by_shape):
            raise NotTranslated(f"The bridge does not translate {path}.")
        raise NotFound("Nothing is at this path.")
