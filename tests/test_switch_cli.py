"""`harvest-bridge switch`: who answers whose calls, as an operator says it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.record.log.reports import Log
from tests.support.dashboards import fill
from tests.support.recorded_days import recorded_days

NOW = datetime.now(UTC)
EVENTS = list(recorded_days(calls=60, integrations=3, days=1, until=NOW, seed=1))
LATEST = EVENTS[-1]
ID = LATEST.integration


@pytest.fixture
def database(tmp_path: Path) -> str:
    return fill(tmp_path / "log.sqlite", EVENTS)


def run(*arguments: str, database: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--database", database], catch_exceptions=False)


def decided(database: str) -> dict[str, str | None]:
    log = Log.open(database)
    try:
        return {each.integration: each.answered_by for each in log.decisions.policies()}
    finally:
        log.close()


def test_at_first_nothing_is_decided(database: str) -> None:
    told = run("switch", database=database)

    assert told.exit_code == 0
    assert told.stdout == (
        "Integrations of which nothing is decided are answered as the setting mode says.\n"
    )


def test_one_integration_is_switched_and_all_others(database: str) -> None:
    run("switch", "--all", "--to", "v1", database=database)
    told = run("switch", ID[:8], "--to", "bridge", database=database)

    assert decided(database) == {"": "v1", ID: "bridge"}
    first, head, row, last = told.stdout.splitlines()
    assert first == "Integrations of which nothing is decided are answered by v1."
    assert head.split("\t") == ["id", "integration", "answered by", "since"]
    assert row.split("\t")[0::2][:2] == [ID, "bridge"]
    assert last == "All bridges go by this within 3 seconds."


def test_what_was_decided_can_be_taken_back(database: str) -> None:
    run("switch", ID, "--to", "v1", database=database)
    run("switch", ID, "--to", "as-set", database=database)

    assert decided(database) == {}


def test_other_decisions_of_it_stay(database: str) -> None:
    run("switch", ID, "--to", "v1", database=database)
    log = Log.open(database)
    (before,) = log.decisions.policies()
    log.decisions.switch(ID, before.answered_by)
    (after,) = log.decisions.policies()
    log.close()

    assert after.changed >= before.changed > 0


def test_it_is_told_as_json(database: str) -> None:
    told = run("switch", ID, "--to", "v1", "--json", database=database)

    (one,) = json.loads(told.stdout)
    assert (one["integration"], one["answered_by"]) == (ID, "v1")


def test_the_list_of_integrations_says_who_answers(database: str) -> None:
    run("switch", ID, "--to", "v1", database=database)

    told = run("integrations", database=database)
    head, *rows = [line.split("\t") for line in told.stdout.splitlines()]
    assert {row[0]: row[head.index("answered by")] for row in rows}[ID] == "v1"
    assert "answered by\tv1" in run("integrations", ID, database=database).stdout


@pytest.mark.parametrize(
    "arguments", [["--all"], ["--to", "v1"], [ID], [ID, "--to", "v2"], [ID, "--all", "--to", "v1"]]
)
def test_what_is_not_whole_is_refused_in_one_line(database: str, arguments: list[str]) -> None:
    told = run("switch", *arguments, database=database)

    assert told.exit_code == 2
    assert len(told.stderr.splitlines()) == 1
    assert decided(database) == {}


@pytest.mark.parametrize(("method", "told"), [("POST", True), ("GET", False)])
def test_writes_that_a_client_may_repeat_are_told_of(
    tmp_path: Path, method: str, told: bool
) -> None:
    """Neither side knows what the other has done: a repetition may be a mail twice."""
    lost = msgspec.structs.replace(LATEST, method=method, status=504, outcome="failed")
    database = fill(tmp_path / "lost.sqlite", [lost])

    done = run("switch", ID, "--to", "bridge", database=database)

    assert done.exit_code == 0
    assert ("knowing what became of them" in done.stderr) is told
    assert (str(lost.id) in done.stderr) is told
