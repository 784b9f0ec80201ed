"""An operator's five questions about a recorded day, each answered by one command and one page.

Who still calls v1, from where, since when and how often? Does it work? What was lost in
translation? What would each have to call instead? Can this be switched off?
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from lxml import html
from typer.testing import CliRunner

from bridge.cli import app
from tests.support.dashboards import running_dashboard
from tests.support.mixed_clients import QUIET_DAYS, Day, record_a_day


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return asyncio.run(record_a_day(tmp_path_factory.mktemp("day")))


def ask(day: Day, *arguments: str) -> str:
    """Run a command on the day's log, and return what it prints."""
    flags = ["--database", day.database]
    done = CliRunner().invoke(app, [*arguments, *flags], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of a table that nobody looks at, by its head."""
    head, *rows = (line.split("\t") for line in text.splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def tables(text: str) -> list[list[dict[str, str]]]:
    return [table(part) for part in text.split("\n\n")]


def test_who_still_calls_v1_from_where_since_when_and_how_often(day: Day) -> None:
    found = table(ask(day, "integrations", "--since", f"{QUIET_DAYS - 1}d"))

    assert {(row["integration"], row["agent"], row["calls"]) for row in found} == {
        ("the billing run", "PHP Wrapper Library for Harvest API", "5"),
        ("acme, Java, 127.0.0.1", "Java", "3"),
        ("the CRM", "Ruby", "4"),
        ("the ledger", "MSIE", "1"),
        ("acme, curl, 127.0.0.1", "curl", "1"),
        ("acme, Python-urllib, 127.0.0.1", "Python-urllib", "1"),
    }
    for row in found:
        assert row["from"] == "127.0.0.1"
        assert row["quiet"] == "0 d"
        assert row["first seen"] <= row["last seen"]
    assert [row["last seen"] for row in found] == sorted(
        (row["last seen"] for row in found), reverse=True
    )


@pytest.mark.parametrize(
    ("integration", "outcomes"),
    [
        ("the billing run", {("served", "")}),
        ("the CRM", {("served", ""), ("untranslated", "")}),
        ("the ledger", {("served", "")}),
    ],
)
def test_does_it_work(day: Day, integration: str, outcomes: set[tuple[str, str]]) -> None:
    _, routes, *_ = tables(ask(day, "integrations", integration))

    assert {(row["outcome"], row["refusal"]) for row in routes} == outcomes


def test_why_it_does_not_work(day: Day) -> None:
    refused = table(ask(day, "calls", "--outcome", "refused"))

    assert {(row["integration"], row["status"], row["outcome"]) for row in refused} == {
        ("acme, curl, 127.0.0.1", "401", "wrong-password"),
        ("acme, Python-urllib, 127.0.0.1", "401", "no-credential"),
    }


def test_what_was_lost_in_translation(day: Day) -> None:
    _, _, notes = tables(ask(day, "integrations", "the billing run"))

    lost = {(row["note"], row["on"]) for row in notes}
    assert {
        ("address-escaped", "document"),
        ("comma-in-name", "full-recipient-list"),
        ("element-dropped", "include-pay-pal-link"),
    } <= lost
    assert all(row["meaning"] for row in notes)


def test_what_it_would_have_to_call_instead(day: Day) -> None:
    plan = json.loads(ask(day, "plan", "the CRM", "--json"))

    assert {
        (step["method"], step["route"], step["calls"], *(call["path"] for call in step["v2"]))
        for step in plan["steps"]
    } == {
        ("GET", "/account/who_am_i", 1, "/users/me", "/company"),
        ("GET", "/clients", 1, "/clients"),
        ("GET", "/clients/{…}", 1, "/clients/$ID"),
        ("GET", "/projects", 1, "/projects"),
    }


def test_a_plan_says_what_changes_in_what_is_sent_and_answered(day: Day) -> None:
    plan = json.loads(ask(day, "plan", "the billing run", "--json"))
    steps: dict[str, Any] = {f"{step['method']} {step['route']}": step for step in plan["steps"]}

    send = steps["POST /invoices/{invoice_id}/messages"]
    assert "-d '{" in send["v2"][0]["curl"]
    changes = {each["v1"]: each["what"] for each in send["body"]}
    assert changes["full-recipient-list"] == ["renamed", "a list"]
    assert changes["include-pay-pal-link"] == ["not taken"]
    mark = steps["POST /invoices/{invoice_id}/messages/mark_as_sent"]
    assert '"event_type": "send"' in mark["v2"][0]["curl"]
    assert {each["v2"] for each in mark["answer"] if each["what"] == ["new"]} >= {"event_type"}


def test_can_this_be_switched_off(day: Day) -> None:
    quiet = table(ask(day, "integrations", "--quiet-since", "30d"))

    assert [(row["agent"], row["quiet"]) for row in quiet] == [("Python-urllib", f"{QUIET_DAYS} d")]


def test_a_call_of_the_day_from_both_ends(day: Day) -> None:
    """Whoever has only the X-Request-Id of an answer finds its call."""
    sent = json.loads(ask(day, "calls", "--method", "POST", "--limit", "1", "--json"))

    (facts, upstream, *_) = tables(ask(day, "show", sent["request_id"]))
    assert {"what": "id", "is": sent["id"]} in facts
    assert [row["v2 call"] for row in upstream] == ["POST /invoices/2420/payments"]


def test_the_files_of_the_day_are_their_owners_only(day: Day) -> None:
    for each in Path(day.database).parent.glob("log.sqlite*"):
        assert each.stat().st_mode & 0o077 == 0, each


# The same on the dashboard, a page a question.


@asynccontextmanager
async def looking(day: Day) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Yield what returns a page's data, having made sure that the page itself says `words`."""
    async with running_dashboard(day.database) as url, aiohttp.ClientSession(url) as session:

        async def look(path: str, *words: str) -> Any:
            async with session.get(path) as shown:
                assert shown.status == 200
                page = html.document_fromstring(await shown.text())
                told = " ".join("".join(map(str, page.itertext())).split())
                assert [each for each in words if each not in told] == []
            async with session.get(f"{path}.json") as data:
                return await data.json()

        yield look


async def page_of(day: Day, title: str) -> str:
    async with looking(day) as look:
        known = (await look("/integrations"))["integrations"]
    return next(f"/integrations/{each['id']}" for each in known if each["title"] == title)


async def test_a_page_says_who_still_calls_v1_from_where_since_when_and_how_often(day: Day) -> None:
    async with looking(day) as look:
        shown = await look("/integrations", "the billing run", "the CRM", "127.0.0.1")

    assert {
        (each["label"], each["agent"], each["network"], each["calls"])
        for each in shown["integrations"]
        if each["calls"]
    } == {
        ("the billing run", "PHP Wrapper Library for Harvest API", "127.0.0.1", 5),
        (None, "Java", "127.0.0.1", 3),
        ("the CRM", "Ruby", "127.0.0.1", 4),
        ("the ledger", "MSIE", "127.0.0.1", 1),
        (None, "curl", "127.0.0.1", 1),
        (None, "Python-urllib", "127.0.0.1", 1),
    }
    for each in shown["integrations"]:
        assert 0 < each["first_seen"] <= each["last_seen"]


async def test_a_page_says_whether_it_works_and_why_not(day: Day) -> None:
    async with looking(day) as look:
        attention = (await look("/overview", "wrong-password", "no-credential"))["attention"]

    assert {each["reason"]: each["calls"] for each in attention["refusals"]} == {
        "wrong-password": 1,
        "no-credential": 1,
    }
    assert {each["path"] for each in attention["untranslated"]} >= {"/clients", "/projects"}


async def test_a_page_says_what_was_lost_in_translation(day: Day) -> None:
    async with looking(day) as look:
        shown = await look(await page_of(day, "the billing run"), "include-pay-pal-link")

    assert {"address-escaped", "comma-in-name", "element-dropped"} <= set(
        shown["integration"]["notes"]
    )


async def test_a_page_says_what_it_would_have_to_call_instead(day: Day) -> None:
    async with looking(day) as look:
        shown = await look(await page_of(day, "the CRM"), "curl", "/clients/$ID", "/company")

    assert {step["route"] for step in shown["plan"]["steps"]} == {
        "/account/who_am_i", "/clients", "/clients/{…}", "/projects",
    }  # fmt: skip


async def test_a_page_says_whether_this_can_be_switched_off(day: Day) -> None:
    async with looking(day) as look:
        shown = await look("/switch-off", "the billing run")

    assert shown["can"] is False
    assert {
        (each["integration"]["agent"], each["quiet_days"])
        for each in shown["integrations"]
        if each["verdict"] == "quiet"
    } == {("Python-urllib", QUIET_DAYS)}
