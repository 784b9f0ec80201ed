"""The commands that turn calls away on purpose: what they decide, list and refuse."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.record.log.policies import NEVER
from bridge.record.log.reports import Log
from bridge.side import Side
from tests.support.dashboards import fill
from tests.support.recorded_days import recorded_days

WEEKLY, LATER = "Tue 10:00-10:15", "2099-01-01 10:00-11:00"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A week of calls, as files."""
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    events = recorded_days(calls=800, integrations=12, days=8, until=datetime.now(UTC))
    fill(path, events)
    return {each.name: each.read_bytes() for each in path.parent.iterdir()}


@pytest.fixture
def database(filled: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in filled.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HARVEST_BRIDGE_DATABASE", str(tmp_path / "log.sqlite"))
    return tmp_path / "log.sqlite"


@pytest.fixture
def whose(database: Path) -> str:
    """An integration."""
    log = Log.open(str(database))
    found = next(each.id for each in log.integrations(since=0) if each.is_known)
    log.close()
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def told(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def decided(*arguments: str) -> list[tuple[str, str, str | None, bool]]:
    """What is listed by a command."""
    return [
        (
            each["brownout"]["integration"],
            each["brownout"]["calls"],
            each["brownout"]["schedule"],
            each["is_on"],
        )
        for each in told("brownout", *arguments)
    ]


# Brownouts.


def test_none_is_on_to_begin_with(database: Path) -> None:
    assert run("brownout").stdout == "No brownout is on or to come.\n"
    assert told("brownout") == []


def test_one_begins_at_once_and_is_ended(database: Path, whose: str) -> None:
    assert decided(whose[:8], "--for", "30m") == [(whose, "all", None, True)]
    assert decided() == [(whose, "all", None, True)]

    ended = run("brownout", "--end", whose)

    assert f"ended: all calls of {whose} are turned away until" in ended.stderr
    assert "It is over; bridges hear of it within two seconds." in ended.stderr
    assert "Nothing was on" in run("brownout", "--end").stderr
    assert ended.stdout == "No brownout is on or to come.\n"


def test_one_of_all_has_a_schedule_and_is_removed(database: Path) -> None:
    arguments = ("--all", "--at", WEEKLY, "--time-zone", "Europe/Berlin", "--calls", "writes")
    (found,) = told("brownout", *arguments)

    assert (found["brownout"]["schedule"], found["brownout"]["time_zone"]) == (
        WEEKLY,
        "Europe/Berlin",
    )
    assert len(decided("--end")) == 1
    assert decided("--remove") == []


def test_the_time_zone_is_that_of_the_settings(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARVEST_BRIDGE_BROWNOUT_TIME_ZONE", "Asia/Tokyo")

    (found,) = told("brownout", "--all", "--at", WEEKLY)

    assert found["brownout"]["time_zone"] == "Asia/Tokyo"


def test_that_of_the_settings_is_listed_and_who_has_decided(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARVEST_BRIDGE_BROWNOUT", LATER)

    run("brownout", "--all", "--for", "1h")
    by = [each["brownout"]["by"] for each in told("brownout")]

    assert by == ["command", "setting"]
    assert f"{LATER} (UTC)\tsetting" in run("brownout").stdout


def test_one_that_is_longer_than_repeated_writes_are_known_is_warned_of(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "repeat_window" not in run("brownout", "--all", "--for", "12h").stderr
    assert "longer than repeat_window (43200 s)" in run("brownout", "--all", "--for", "13h").stderr
    monkeypatch.setenv("HARVEST_BRIDGE_REPEAT_WINDOW", "60")
    assert "longer than repeat_window (60 s)" in run("brownout", "--all", "--for", "2m").stderr


# The dry run.


def test_a_dry_run_names_who_would_have_been_hit_and_decides_nothing(database: Path) -> None:
    shown = run("brownout", "--dry-run", "--at", "daily 00:00-23:00")
    found = told("brownout", "--dry-run", "--at", "daily 00:00-23:00")

    assert decided() == []
    first = found["hits"][0]
    assert f"{first['integration']}\t{first['title']}\t\t{first['calls']}" in shown.stdout
    assert (
        f"{found['calls']} calls of {len(found['hits'])} integrations would have been turned away, "
        f"{found['writes']} of them writes\n"
    ) in shown.stdout


def test_a_dry_run_of_one_names_nobody_else(database: Path, whose: str) -> None:
    found = told("brownout", whose, "--dry-run", "--at", "daily 00:00-23:00")

    assert [each["integration"] for each in found["hits"]] == [whose]


def test_a_dry_run_is_of_what_is_planned(database: Path) -> None:
    run("brownout", "--all", "--at", "daily 00:00-23:00", "--calls", "reads")

    found = told("brownout", "--dry-run")

    assert found["calls"] > 0
    assert found["writes"] == 0


def test_a_dry_run_says_where_the_log_begins(database: Path, tmp_path: Path) -> None:
    young = tmp_path / "young.sqlite"
    calls = list(recorded_days(calls=50, integrations=3, days=1, until=datetime.now(UTC)))
    fill(young, calls)

    shown = run("brownout", "--dry-run", "--at", "daily 00:00-23:00", "--database", str(young))

    assert f"the log begins at {calls[0].timestamp:%Y-%m-%dT%H}:00:00Z" in shown.stdout


# What makes no sense.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--for", "30m"], "name whose calls are to be turned away"),
        (["nobody", "--for", "30m"], "no integration has this id"),
        (["--all", "--for", "soon"], "--for must be a span of time"),
        (["--all", "--for", "8d"], "--for must last for at most 7 days"),
        (["--all", "--for", "0m"], "--for must last"),
        (["--all", "--for", "1m", "--at", WEEKLY], "--for and --at: one of them"),
        (["--all", "--at", "Tue"], "--at must be days and then times"),
        (["--all", "--at", "2020-01-01 10:00-11:00"], "--at is over already"),
        (["--all", "--at", WEEKLY, "--time-zone", "Mars"], "--time-zone must be a time zone"),
        (["--all", "--for", "1m", "--time-zone", "UTC"], "--time-zone is that of --at"),
        (["--all", "--for", "1m", "--calls", "some"], "--calls must be all, reads, writes"),
        (["--all", "--for", "1m", "--calls", "/nowhere"], "--calls: /nowhere is no path of v1"),
        (["--end", "--for", "1m"], "--end and --remove go with neither"),
        (["--dry-run"], "no brownout is on or to come"),
    ],
)
def test_what_makes_no_sense_is_one_line(database: Path, arguments: list[str], said: str) -> None:
    result = run("brownout", *arguments)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert decided() == []


def test_an_integration_alone_is_not_enough(database: Path, whose: str) -> None:
    assert "say when: --for 30m" in run("brownout", whose).stderr
    assert "name an integration, or --all" in run("brownout", whose, "--all", "--for", "1m").stderr


# Sunsets.


def sunsets(*arguments: str) -> dict[str, int]:
    return {each["integration"]: each["sunset"] for each in told("sunset", *arguments)}


def milliseconds(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def test_sunsets_are_decided_listed_and_taken_back(database: Path, whose: str) -> None:
    day = milliseconds("2037-06-30")
    assert run("sunset").stdout == "No sunset was decided.\n"
    assert sunsets("--all", "2037-06-30") == {"": day}
    assert sunsets(whose, "--never") == {"": day, whose: NEVER}
    assert sunsets(whose, "2020-01-01") == {"": day, whose: milliseconds("2020-01-01")}

    listed = run("sunset").stdout
    days = -(-(day - time.time() * 1000) // 86_400_000)
    assert "all\t\t2037-06-30\t410 in " in listed
    assert abs(int(listed.partition("410 in ")[2].split()[0]) - days) <= 1
    assert listed.endswith("\t2020-01-01\t410\n")

    assert sunsets(whose, "--as-all") == {"": day}
    assert sunsets("--all", "--never") == {}


def test_a_sunset_leaves_who_answers_as_it_was(database: Path, whose: str) -> None:
    log = Log.open(str(database))
    log.decisions.switch(whose, Side.V1)
    run("sunset", whose, "2037-06-30")

    (policy,) = log.decisions.policies()
    log.close()

    assert (policy.answered_by, policy.sunset) == (Side.V1, milliseconds("2037-06-30"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--all"], "name whose (--all or INTEGRATION), and when"),
        (["2037-06-30"], "name whose (--all or INTEGRATION), and when"),
        (["--never"], "name whose (--all or INTEGRATION), and when"),
        (["--all", "2037-06-30", "--never"], "name whose (--all or INTEGRATION), and when"),
        (["--all", "--never", "--as-all"], "name whose (--all or INTEGRATION), and when"),
        (["--all", "soon"], "'soon' is no day such as 2027-06-30"),
        (["nobody", "2037-06-30"], "no integration has this id"),
    ],
)
def test_a_sunset_that_makes_no_sense_is_one_line(
    database: Path, arguments: list[str], said: str
) -> None:
    result = run("sunset", *arguments)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert sunsets() == {}
