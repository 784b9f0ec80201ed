"""schemas/README.md and some pages of docs are true: their tables are the code's, citations lead on."""

import re
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from lxml import etree

from bridge.comparing import Kind
from bridge.identity.callers import Refusal
from bridge.record.log.events import (
    CALL_EVENTS,
    CONNECTION_EVENTS,
    CallEvent,
    ConnectionEvent,
    NoteEvent,
    Outcome,
    UpstreamCallEvent,
    outcome_of,
)
from bridge.resources import RESOURCES
from bridge.resources.account import RATE_LIMIT_STATUS, WHO_AM_I
from bridge.resources.failures import DEFECT, FAILURES, OTHER_REFUSAL, REFUSALS
from bridge.resources.invoice_messages import EVENTS, TEMPLATE
from bridge.resources.routes import V1_ROOTS, Resource
from bridge.resources.table import Entity
from bridge.server.records import INTEGRATIONS, KINDS, NOTED, PATHS
from bridge.v1.dialects import Dialect
from bridge.v1.notes import NoteCode
from bridge.v1.problems import Problem
from bridge.v1.recipients import RecipientNote
from bridge.verifying.outcome import KNOWN_REASONS
from bridge.verifying.reads import MEANINGS
from tests.support.logged import events

REPOSITORY = Path(__file__).parent.parent
CONTRACT = (REPOSITORY / "schemas" / "README.md").read_text()
README = (REPOSITORY / "README.md").read_text()
LOG = (REPOSITORY / "docs" / "log.md").read_text()
VERIFY = (REPOSITORY / "docs" / "verify.md").read_text()
SOURCES = sorted([*REPOSITORY.glob("bridge/**/*.py"), *REPOSITORY.glob("tests/**/*.py")])


def rows(*headings: str, within: str = CONTRACT) -> list[list[str]]:
    """Return the cells of the table with these column headings, without their backquotes."""
    lines = within.splitlines()
    start = lines.index(f"| {' | '.join(headings)} |")
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


def section(heading: str) -> str:
    """Return what stands below a heading, as far as the next one of its level."""
    level = heading.split(maxsplit=1)[0]
    found = re.search(rf"^{heading}\n(.*?)(?=^{level} |\Z)", CONTRACT, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


def section_of(resource: Resource) -> str:
    """Return what the contract says of a resource."""
    return section(f"## {resource.name.replace('-', ' ').capitalize()}")


def module_of(resource: Resource) -> ModuleType:
    return import_module(f"bridge.resources.{resource.name.replace('-', '_')}")


every_resource = pytest.mark.parametrize("resource", RESOURCES, ids=lambda each: each.name)
every_collection = pytest.mark.parametrize(
    "resource",
    [resource for resource in RESOURCES if resource.collection],
    ids=lambda each: each.name,
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_cited_heading_exists(path: Path) -> None:
    headings = set(re.findall(r"^#+ (.+)$", CONTRACT, re.MULTILINE))
    text = re.sub(r"\s+#?\s*", " ", path.read_text())
    cited = set(re.findall(r'schemas/README\.md`?, "([^"]+)"', text))

    assert cited <= headings


def places_in(table: list[list[str]]) -> list[tuple[str, str, str, int | None, int | None]]:
    """Return the rows of a field table."""

    def place(cell: str) -> int | None:
        return None if cell == "–" else int(cell)

    return [
        (source, element, type_, place(classic), place(final))
        for source, element, type_, classic, final in table
    ]


def places_of(entity: Entity) -> list[tuple[str, str, str, int | None, int | None]]:
    """Return the same rows of the code."""
    return [
        (
            "(the path's)" if field.kind.v2 is None else field.source,
            field.element,
            field.kind.v1.attribute.of(Dialect.CLASSIC) or "string",
            field.places.classic,
            field.places.final,
        )
        for field in entity.fields
    ]


@every_collection
def test_the_field_table(resource: Resource) -> None:
    assert resource.collection is not None
    table = rows("v2 field", "element", "type", "classic", "final", within=section_of(resource))

    assert places_in(table) == places_of(resource.collection.entity)


@pytest.mark.parametrize(
    ("heading", "source", "entity"),
    [
        ("### Who am I", "v2 field", WHO_AM_I),
        ("### Rate limit status", "member", RATE_LIMIT_STATUS),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_field_tables_of_the_account(heading: str, source: str, entity: Entity) -> None:
    table = rows(source, "element", "type", "classic", "final", within=section(heading))

    assert places_in(table) == places_of(entity)


@every_collection
def test_the_table_of_what_can_be_sent(resource: Resource) -> None:
    assert rows("element", "type", "v2 parameter", within=section_of(resource)) == [
        [given.element, given.type.attribute.classic or "string", given.field or "–"]
        for given in module_of(resource).GIVEN
    ]


@every_resource
def test_the_table_of_calls(resource: Resource) -> None:
    told = [
        (name, call.split()[0])
        for name, call, _, _ in rows(
            "call", "legacy call", "v2 call", "answer", within=section_of(resource)
        )
    ]

    assert told == list(dict.fromkeys((call.name, call.method) for call in resource.calls))


def test_the_changes_of_state_are_calls_of_messages() -> None:
    names = {call.name for resource in RESOURCES for call in resource.calls}

    assert set(EVENTS) <= names


def test_the_elements_of_a_template() -> None:
    told = section("### Message template")
    elements = [field.element for field in TEMPLATE.fields]

    assert re.findall(r"`([a-z-]+)`", told)[: len(elements)] == elements


def test_the_codes_of_notes() -> None:
    assert sorted(code for code, _ in rows("code", "meaning")) == sorted(
        [*NoteCode, *RecipientNote]
    )


def test_the_statuses_of_causes() -> None:
    assert [int(status) for _, status in rows("cause", "status")] == [
        *(failure.status for failure in FAILURES.values()),
        DEFECT.status,
    ]


def test_the_statuses_of_v2s_refusals() -> None:
    told = {theirs: int(ours) for theirs, ours, _ in rows("v2", "status", "with")}

    assert told.pop("any other") == OTHER_REFUSAL.status
    assert told == {str(status): failure.status for status, failure in REFUSALS.items()}


def test_the_roots_of_v1() -> None:
    assert set(re.findall(r"`([a-z_]+)`", section("## Paths"))) == {*V1_ROOTS, *V1_ROOTS.values()}


def test_the_list_of_xsds() -> None:
    schemas = REPOSITORY / "schemas"
    told = {path: root for path, root, _ in rows("schema", "root", "of")}

    for path, root in told.items():
        declared = etree.parse(schemas / path).find("{*}element")
        assert declared is not None
        assert declared.get("name") == root
    assert set(told) == {
        str(path.relative_to(schemas))
        for path in schemas.rglob("*.xsd")
        if not path.name.endswith("types.xsd")
    }


def fields_of_the_log() -> dict[str, str]:
    """Return each field that README tells of, with what is said in its row."""
    table = rows("fields", "meaning", within=README)
    return {name: meaning for names, meaning in table for name in names.split("`, `")}


def fields_in(meaning: str) -> list[str]:
    return re.findall(r"(?:^|`)([a-z0-9_]+)(?:`|$)", meaning.partition(" (")[0])


def test_the_fields_of_the_log() -> None:
    told = fields_of_the_log()

    assert set(told) == {
        *CallEvent.__struct_fields__,
        *ConnectionEvent.__struct_fields__,
    }
    assert fields_in(told["upstream"]) == [*UpstreamCallEvent.__struct_fields__]
    assert fields_in(told["notes"]) == [*NoteEvent.__struct_fields__]


def test_the_events_of_the_log() -> None:
    told = fields_of_the_log()

    assert fields_in(told["event"])[:2] == [*CALL_EVENTS]
    assert fields_in(told["reason"]) == [*CONNECTION_EVENTS]


@pytest.mark.parametrize(
    ("heading", "codes"),
    [
        (("refusal", "meaning"), Refusal),
        (("problem", "what was wrong with a request that got 400"), Problem),
        (("outcome", "status"), Outcome),
    ],
    ids=["refusals", "problems", "outcomes"],
)
def test_the_codes_of_the_log(heading: tuple[str, str], codes: type[StrEnum]) -> None:
    assert [code for code, _ in rows(*heading, within=LOG)] == [*codes]


def test_the_statuses_of_outcomes() -> None:
    table = dict(rows("outcome", "status", within=LOG))
    told = {int(status): code for code, cell in table.items() for status in cell.split(", ")
            if status.isdigit()}  # fmt: skip
    statuses = {failure.status for failure in [*FAILURES.values(), *REFUSALS.values(), DEFECT]}

    assert {status: outcome_of(status) for status in statuses} == told
    assert outcome_of(200) == outcome_of(201) == "served"
    assert outcome_of(None) == "gone"


def test_the_other_lines_of_the_log() -> None:
    told = {
        (event, level)
        for events, levels, _ in rows("event", "level", "meaning", within=LOG)
        for event in events.split("`, `")
        for level in levels.split(", ")
    }

    assert told == {*events()}


def test_how_many_are_told_apart_in_a_day() -> None:
    table = rows("", "callers who are known", "others", within=LOG.replace("| |", "|  |", 1))

    assert [[int(cell.replace(",", "")) for cell in cells[1:]] for cells in table] == [
        [getattr(bounds[known], name) for known in (True, False)]
        for bounds in (INTEGRATIONS, PATHS, KINDS, NOTED)
        for name in ("of_one", "in_all")
    ]


@pytest.mark.parametrize("page", ["SECURITY.md", "tests/attacks.md"])
def test_every_test_that_a_promise_names_is_there(page: str) -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", (REPOSITORY / page).read_text()))

    assert named
    assert [path for path in sorted(named) if not (REPOSITORY / path).is_file()] == []


def test_the_tables_of_what_verifying_finds() -> None:
    assert rows("known difference", "why", within=VERIFY) == [
        [name, reason] for name, reason in KNOWN_REASONS.items()
    ]
    assert rows("`--json`", "because", within=VERIFY) == [
        [reason, meaning] for reason, meaning in MEANINGS.items()
    ]
    told = [cells[0] for cells in rows("what differs", "meaning", within=VERIFY)]
    assert [kind.strip("` ") for each in told for kind in each.split(",")] == list(Kind)
