"""docs/translation-log.md is true: its tables, columns, views and bounds are the database's."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from bridge.record.log import retention, writer
from bridge.record.log.database import KEY_LENGTH, open_database, writing
from bridge.record.log.events import Outcome
from bridge.record.log.ingest import ingest, ingest_connections
from tests.support.recorded_days import failed_connections, recorded_days

PAGE = (Path(__file__).parents[2] / "docs" / "translation-log.md").read_text()

NOW = datetime.now(UTC)
"""What is quiet for how long is seen from here by the database, too."""

CALLS = list(recorded_days(calls=2000, integrations=30, days=60, until=NOW))

QUERIES = re.findall(r"\n(\S[^\n]*\?)\n\n```sql\n(.*?);\n```", PAGE, re.DOTALL)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = open_database(database, b"k" * KEY_LENGTH)
    with writing(engine) as connection:
        ingest(connection, CALLS)
        ingest_connections(connection, failed_connections(count=50, days=60, until=NOW))
    yield engine
    engine.dispose()


def section(heading: str, level: str = "##") -> str:
    found = re.search(rf"^{level} {heading}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


def rows(within: str) -> list[list[str]]:
    lines = [line for line in within.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def test_every_table_and_column(engine: Engine) -> None:
    tables = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    told = {table: [named(row[0])[0] for row in rows(section(table, "###"))] for table in tables}

    found = inspect(engine)
    assert told == {
        table: [column["name"] for column in found.get_columns(table)]
        for table in sorted(found.get_table_names(), key=tables.index)
    }


def test_every_view_and_its_columns(engine: Engine) -> None:
    told = {named(view)[0]: named(columns) for view, _, columns in rows(section("Views"))}

    found = inspect(engine)
    assert told == {
        view: [column["name"] for column in found.get_columns(view)]
        for view in sorted(found.get_view_names(), key=list(told).index)
    }


def test_there_are_five_questions() -> None:
    assert len(QUERIES) == 5


@pytest.mark.parametrize(("question", "query"), QUERIES, ids=[each[0] for each in QUERIES])
def test_every_question_has_an_answer(engine: Engine, question: str, query: str) -> None:
    with engine.connect() as connection:
        answer = connection.execute(text(query)).mappings().all()

    assert answer, question
    if "title" in answer[0]:
        assert all(row["title"] for row in answer)


@pytest.mark.parametrize("view", [named(row[0])[0] for row in rows(section("Views"))])
def test_every_view_can_be_read(engine: Engine, view: str) -> None:
    with engine.connect() as connection:
        read = connection.execute(text(f"SELECT * FROM {view}")).mappings().all()

    assert read
    for name in ("time", "first_seen", "last_seen"):
        assert all(str(row.get(name, "20"))[:2] == "20" for row in read)


def test_times_are_read_as_they_are(engine: Engine) -> None:
    with engine.connect() as connection:
        last = connection.execute(text("SELECT max(time) FROM calls_readable")).scalar_one()
        counted = connection.execute(text("SELECT max(time) FROM call_days_readable")).scalar_one()

    latest = CALLS[-1].timestamp
    assert str(last).replace("T", " ")[:19] == f"{latest:%Y-%m-%d %H:%M:%S}"
    assert str(counted).replace("T", " ")[:19] == f"{latest:%Y-%m-%d} 00:00:00"


def test_the_bounds_it_names() -> None:
    assert f"a queue of {writer.MOST_WAITING:,} and {writer.MOST_WAITING_BYTES >> 20} MiB" in PAGE
    assert f"every {writer.LONGEST_PAUSE:.0f} seconds" in PAGE
    assert (1 / writer.LINGER, writer.FLUSH_TIME) == (4.0, 5.0)
    assert f"goes {retention.STEP} calls at a time" in PAGE
    assert retention.HOURS_KEPT == retention.CONNECTIONS_KEPT * 24 == 90 * 24


def test_the_outcomes_it_names() -> None:
    (told,) = [meaning for name, meaning in rows(section("calls", "###")) if name == "`outcome`"]

    assert named(told) == list(Outcome)
