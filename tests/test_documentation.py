"""schemas/README.md is true: its tables are the code's, and every citation of it leads somewhere."""

import re
from pathlib import Path

import pytest
from lxml import etree

from bridge.resources import RESOURCES
from bridge.resources.failures import DEFECT, FAILURES, OTHER_REFUSAL, REFUSALS
from bridge.resources.invoice_messages import EVENTS, GIVEN, MESSAGE, TEMPLATE
from bridge.resources.routes import V1_ROOTS
from bridge.v1.dialects import Dialect
from bridge.v1.notes import NoteCode
from bridge.v1.recipients import RecipientNote

REPOSITORY = Path(__file__).parent.parent
CONTRACT = (REPOSITORY / "schemas" / "README.md").read_text()
SOURCES = sorted([*REPOSITORY.glob("bridge/**/*.py"), *REPOSITORY.glob("tests/**/*.py")])


def rows(*headings: str) -> list[list[str]]:
    """Return the cells of the table with these column headings, without their backquotes."""
    lines = CONTRACT.splitlines()
    start = lines.index(f"| {' | '.join(headings)} |")
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_cited_heading_exists(path: Path) -> None:
    headings = set(re.findall(r"^#+ (.+)$", CONTRACT, re.MULTILINE))
    text = re.sub(r"\s+#?\s*", " ", path.read_text())
    cited = set(re.findall(r'schemas/README\.md`?, "([^"]+)"', text))

    assert cited <= headings


def test_every_link_on_the_page_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", CONTRACT, re.MULTILINE)
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings
    }

    assert set(re.findall(r"\]\(#([^)]+)\)", CONTRACT)) <= anchors


def test_the_field_table() -> None:
    def place(cell: str) -> int | None:
        return None if cell == "–" else int(cell)

    told = [
        (source, element, type_, place(classic), place(final))
        for source, element, type_, classic, final in rows(
            "v2 field", "element", "type", "classic", "final"
        )
    ]

    assert told == [
        (
            "(the path's)" if field.kind.v2 is None else field.source,
            field.element,
            field.kind.v1.attribute.of(Dialect.CLASSIC) or "string",
            field.places.classic,
            field.places.final,
        )
        for field in MESSAGE.fields
    ]


def test_the_table_of_what_can_be_sent() -> None:
    assert rows("element", "type", "v2 parameter") == [
        [given.element, given.type.attribute.classic or "string", given.field or "–"]
        for given in GIVEN
    ]


def test_the_table_of_calls() -> None:
    (resource,) = RESOURCES
    told = [
        (name, call.split()[0])
        for name, call, _, _ in rows("call", "legacy call", "v2 call", "answer")
    ]

    assert told == list(dict.fromkeys((call.name, call.method) for call in resource.calls))
    assert set(EVENTS) <= {name for name, _ in told}


def test_the_elements_of_a_template() -> None:
    section = CONTRACT.split("### Message template")[1].split("##")[0]
    elements = [field.element for field in TEMPLATE.fields]

    assert re.findall(r"`([a-z-]+)`", section)[: len(elements)] == elements


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
    section = CONTRACT.split("## Paths")[1].split("##")[0]

    assert set(re.findall(r"`([a-z_]+)`", section)) == V1_ROOTS


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
