"""What an integration has to call instead of v1: its to-do, from what it calls and the tables.

Fields, bodies and v2 calls are those of `bridge.resources`; what is not translated, of
`counterparts`. How a plan is shown is not known here.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import inspect

from bridge.guide.counterparts import counterpart_of
from bridge.guide.explaining import ROUTER, AskedOfV2, Request, explain
from bridge.guide.notes import meaning_of
from bridge.record.log.answers import Integration, Noted, Route
from bridge.resources.routes import Call, Match
from bridge.resources.table import Field, Given
from bridge.v1.dialects import Dialect
from bridge.v1.errors import LegacyCallError
from bridge.v1.notes import Notes
from bridge.v2.paging import PER_PAGE

V2 = "https://api.harvestapp.com/v2"

EVERYWHERE = (
    f"The address is {V2}, for all accounts.",
    "The credential is a token as Authorization: Bearer; Harvest-Account-Id names the account.",
    "User-Agent has to name the application and a contact: without, v2 answers 400.",
    "JSON both ways; names have underscores, and what was nil is null.",
    "What was made is the answer's body, its id in it: there is no Location.",
    "An error is a message in JSON; 422 is v1's 400 in most cases.",
    "A token has 100 calls in 15 seconds: after that, v2 answers 429 and Retry-After, v1 did 503.",
)
"""What changes with every call (the vendor's documentation of v2)."""


class Change(msgspec.Struct, frozen=True):
    """One field, before and after."""

    v1: str | None
    """The element; `/` leads into it; None: v1 has none."""
    v1_type: str | None
    v2: str | None
    """The member; a dot leads into it; None: v2 has none."""
    v2_type: str | None
    what: tuple[str, ...]
    """`renamed`, `nested`, `in the path`, `not taken`, `computed`, `a list`, `new`; empty: it is
    spelled with underscores, and as JSON."""


class V2Call(msgspec.Struct, frozen=True):
    """A v2 call to be made."""

    method: str
    path: str
    """Below v2's base URL, with its query, and `$NAME` for what has to be filled in."""
    curl: str


class NoteOn(msgspec.Struct, frozen=True):
    """What was dropped, repaired or ignored of the integration's calls."""

    code: str
    subject: str
    calls: int
    meaning: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One v1 call that the integration makes. Times are milliseconds since 1970, UTC."""

    method: str
    route: str
    calls: int
    first_seen: int
    last_seen: int
    outcomes: Mapping[str, int]
    dialects: Sequence[str]
    v2: Sequence[V2Call] = ()
    body: Sequence[Change] = ()
    """What it may send."""
    answer: Sequence[Change] = ()
    """What it gets."""
    remarks: Sequence[str] = ()
    notes: Sequence[NoteOn] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The to-do of one integration."""

    integration: Integration
    everywhere: Sequence[str] = EVERYWHERE
    steps: Sequence[Step]
    """What it calls most comes first."""


def plan(integration: Integration, routes: Iterable[Route], notes: Iterable[Noted]) -> Plan:
    """Return what an integration has to do that has called so, and of which this was noted."""
    called: dict[tuple[str, str], list[Route]] = {}
    for route in routes:
        called.setdefault((route.method, route.route), []).append(route)
    noted: dict[tuple[str, str], list[NoteOn]] = {}
    for each in notes:
        on = NoteOn(each.code, each.subject, each.calls, meaning_of(each.code))
        noted.setdefault((each.method, each.route), []).append(on)
    steps = [_step(*call, rows, noted.get(call, ())) for call, rows in called.items()]
    return Plan(integration=integration, steps=sorted(steps, key=lambda step: -step.calls))


def _step(method: str, route: str, rows: Sequence[Route], notes: Sequence[NoteOn]) -> Step:
    outcomes: Counter[str] = Counter()
    dialects: Counter[str] = Counter()
    for row in rows:
        outcomes[row.outcome] += row.calls
        if row.dialect:
            dialects[row.dialect] += row.calls
    known = [dialect for dialect, _ in dialects.most_common()]
    match = _match(method, route)
    if match is None:
        instead = _instead(method, route)
    else:
        instead = _translated(match, route, Dialect(known[0]) if known else match.call.dialect)
    return Step(
        method=method,
        route=route,
        calls=outcomes.total(),
        first_seen=min(row.first_seen for row in rows),
        last_seen=max(row.last_seen for row in rows),
        outcomes=dict(outcomes.most_common()),
        dialects=known,
        notes=notes,
        **instead,
    )


def _match(method: str, route: str) -> Match | None:
    try:
        return ROUTER.match(method, _with_ids(route, _ids(route)), Notes())
    except LegacyCallError:
        return None


_FIRST_ID = 900_000_001
"""Stands for the first id of a path, and the numbers that follow it for others."""


def _ids(route: str) -> dict[str, int]:
    names = [part.strip("{}") for part in route.split("/") if part.startswith("{")]
    return {name: _FIRST_ID + at for at, name in enumerate(names)}


def _with_ids(route: str, ids: Mapping[str, int]) -> str:
    for name, id_ in ids.items():
        route = route.replace(f"{{{name}}}", str(id_))
    return route


def _translated(match: Match, route: str, dialect: Dialect) -> dict[str, Any]:
    """Return what to do instead of a call that the bridge translates: what it asks of v2 itself."""
    call, ids = match.call, _ids(route)
    target = _with_ids(route, ids)
    body = _sample(call)
    explained = explain(Request(method=call.method, target=target, body=body, dialect=dialect))
    sent: dict[str, Any] = {}
    for asked in explained.v2:
        sent.update(asked.body if isinstance(asked.body, dict) else {})
    return {
        "v2": [_filled_in(asked, ids) for asked in explained.v2],
        "body": [_given(each, sent) for each in call.takes],
        "answer": _answer(call, dialect),
        "remarks": [*_remarks(match, explained.v2, sent), *_on_parameters(call, target)],
    }


def _filled_in(asked: AskedOfV2, ids: Mapping[str, int]) -> V2Call:
    path = asked.path + (f"?{asked.query}" if asked.query else "")
    for name, id_ in ids.items():
        path = path.replace(str(id_), f"${name.upper()}")
    return V2Call(asked.method, path, _curl(asked.method, path, asked.body))


def _curl(method: str, path: str, body: object, form: str = "") -> str:
    """Return the line for a shell; `$NAME` is what has to be filled in."""
    parts = ["curl"]
    if method != "GET":
        parts.append(f"-X {method}")
    parts += [
        f'"{V2}{path}"',
        '-H "Authorization: Bearer $TOKEN"',
        '-H "Harvest-Account-Id: $ACCOUNT_ID"',
        '-H "User-Agent: $APPLICATION ($CONTACT)"',
    ]
    if form:
        parts.append(f'-F "{form}"')
    elif body is not None:
        text = '"$JSON"' if body is ... else f"'{json.dumps(body)}'"
        parts += ['-H "Content-Type: application/json"', f"-d {text}"]
    return " ".join(parts)


_TEXTS = {
    "boolean": "true",
    "decimal": "100.00",
    "datetime": "2026-01-31T12:00:00Z",
    "dateTime": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "integer": "1",
}
"""What stands for a value, by the type of its element."""

_SPECIAL_TEXTS = {"recipients": "Jane Doe &lt;jane@example.com&gt;"}
"""Likewise, by the v2 field, where not any text is good."""

_PARAMETERS = {"updated_since": "2026-01-31 12:00"}
"""Likewise, by the name of a parameter; any other is a boolean."""


def _type(given: Given) -> str:
    return given.type.attribute.final or "string"


def _sample(call: Call) -> bytes:
    """Return a body with all that a call takes."""
    if not call.takes or call.shows is None:
        return b""
    elements = "".join(
        f"<{each.element}>{text}</{each.element}>"
        for each in call.takes
        if (text := _SPECIAL_TEXTS.get(each.field or "", _TEXTS.get(_type(each), "TEXT")))
    )
    root = call.shows.element
    return f"<{root}>{elements}</{root}>".encode()


def _given(given: Given, sent: Mapping[str, Any]) -> Change:
    what: list[str] = []
    value = sent.get(given.field or "")
    if given.field is None:
        what.append("not taken")
    elif given.field != given.element.replace("-", "_"):
        what.append("renamed")
    if isinstance(value, list):
        what.append("a list")
    v2_type = None if given.field is None else _type_of_value(value)
    return Change(given.element, _type(given), given.field, v2_type, tuple(what))


def _type_of_value(value: object) -> str:
    if isinstance(value, list):
        members = value[0] if value and isinstance(value[0], dict) else {}
        return f"array of {{{', '.join(members)}}}" if members else "array"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string"


def _answer(call: Call, dialect: Dialect) -> list[Change]:
    if call.shows is None or not call.asks_v2:
        return []
    placed = [field for field in call.shows.fields if field.places.of(dialect) is not None]
    new = [Change(None, None, path, None, ("new",)) for path in call.shows.unsaid]
    return [*(_told(field, dialect) for field in placed), *new]


def _told(field: Field, dialect: Dialect) -> Change:
    v1_type = field.kind.v1.attribute.of(dialect) or "string"
    if field.kind.v2 is None:
        return Change(field.element, v1_type, None, None, ("in the path",))
    what: list[str] = []
    source = _IN_V2.get(field.source, field.source)
    last = field.element.replace("-", "_").rpartition("/")[2]
    if "." in source and "/" not in field.element:
        what.append("nested")
    if field.choose is not None:
        what.append("computed")
    elif last != source.rpartition(".")[2]:
        what.append("renamed")
    v2_type = _json_type(inspect.type_info(field.kind.v2))
    if v2_type.startswith("array"):
        what.append("a list")
    sources = ", ".join(
        _IN_V2.get(source.path, source.path) for source in field.sources if source.path != "at"
    )
    return Change(field.element, v1_type, sources, v2_type, tuple(what))


_IN_V2 = {"called.base_uri": "company.base_uri", "called.host": "company.full_domain"}
"""Where v2 has what the bridge knows from the call itself."""

_JSON_TYPES: Mapping[type[inspect.Type], str] = {
    inspect.IntType: "number",
    inspect.DecimalType: "number",
    inspect.BoolType: "boolean",
    inspect.DateType: "string, a date",
    inspect.DateTimeType: "string, ISO 8601",
}


def _json_type(info: inspect.Type) -> str:
    if isinstance(info, inspect.UnionType):
        info = next(each for each in info.types if not isinstance(each, inspect.NoneType))
    if isinstance(info, inspect.Metadata):
        return _json_type(info.type)
    if isinstance(info, inspect.ListType):
        item = info.item_type
        if isinstance(item, inspect.StructType):
            return f"array of {{{', '.join(field.name for field in item.fields)}}}"
        return "array"
    return _JSON_TYPES.get(type(info), "string")


def _remarks(match: Match, asked: Sequence[AskedOfV2], sent: Mapping[str, Any]) -> list[str]:
    call, collection = match.call, match.resource.collection
    remarks = []
    if not call.asks_v2:
        remarks.append("v2 has no such call: count the calls, or wait when it answers 429.")
    if collection is not None and call.method == "GET" and asked:
        path = collection.path.format_map(match.ids)
        if asked[0].path == path:
            remarks.append(
                f"The items are under {collection.key}, {PER_PAGE:,} a page at most: call what "
                "links.next says until that is null."
            )
        if asked[0].path == path and len(match.ids) > 1:
            remarks.append("v2 has no call that shows one: pick it by its id.")
    fields = {each.field for each in call.takes}
    for name, value in sent.items():
        if name not in fields:
            remarks.append(f"Send {name}, too, as {json.dumps(value)}: no element of v1 said it.")
    return remarks


def _on_parameters(call: Call, target: str) -> list[str]:
    remarks = []
    for name in sorted(call.parameters):
        text = _PARAMETERS.get(name, "true")
        query = f"{name}={text.replace(' ', '+')}"
        asked = explain(Request(method=call.method, target=f"{target}?{query}")).v2
        if asked:
            found = next(each for each in asked[0].query.split("&") if each.startswith(name))
            remarks.append(f"The parameter {name}={text} is {unquote(found)}.")
    return remarks


def _instead(method: str, route: str) -> dict[str, Any]:
    """Return what to do instead of a call that the bridge does not translate."""
    found = counterpart_of(method, route)
    if found is None:
        return {
            "remarks": ["This is no path of v1's: see whether the client has its address wrong."]
        }
    calls = []
    for each in found.v2:
        verb, _, path = each.partition(" ")
        filled = _shell_names(path)
        body = ... if verb in _WITH_BODY and not path.endswith(_WITHOUT_BODY) else None
        form = found.form if each == found.v2[-1] else ""
        calls.append(V2Call(verb, filled, _curl(verb, filled, body, form)))
    remarks = [found.remark] if found.remark else []
    return {"v2": calls, "remarks": remarks}


_WITH_BODY = frozenset({"POST", "PATCH"})
_WITHOUT_BODY = ("/stop", "/restart")


def _shell_names(path: str) -> str:
    parts = path.split("{")
    return parts[0] + "".join(
        f"${name.upper()}{rest}" for name, _, rest in (each.partition("}") for each in parts[1:])
    )
