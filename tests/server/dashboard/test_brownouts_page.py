"""What the dashboard says of calls that are turned away on purpose, and the button that ends it."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from lxml import html

from bridge.record.log.brownouts import Brownout, planned
from bridge.record.log.events import ALL
from bridge.record.log.reports import Log
from bridge.record.log.times import DAY, HOUR
from bridge.server.admin.dashboard.facts import Facts
from tests.support.dashboards import a_captured_call, fill, running_dashboard

BILLING = "c0ffee000001"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Two calls: one that was served a week ago, and one that was turned away just now."""
    away, _ = a_captured_call()
    away = msgspec.structs.replace(
        away, status=503, outcome="withdrawn", refusal="brownout", upstream=()
    )
    week_ago = ((away.id >> 22) - 7 * DAY + HOUR) << 22
    served = msgspec.structs.replace(away, id=week_ago, status=200, outcome="served", refusal=None)
    return fill(tmp_path / "log.sqlite", [served, away])


@pytest.fixture
def log(database: str) -> Iterator[Log]:
    log = Log.open(database)
    yield log
    log.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(headers={"Accept": "text/html"}, cookie_jar=jar) as session:
        yield session


async def got(session: aiohttp.ClientSession, url: str) -> html.HtmlElement:
    async with session.get(url) as response:
        assert response.status == 200
        return html.document_fromstring(await response.text())


def text_of(element: Any) -> str:
    return " ".join(" ".join(element.itertext()).split())


def now() -> int:
    return time.time_ns() // 1_000_000


def begin(log: Log, integration: str = ALL, **more: Any) -> None:
    at = now()
    once = Brownout(integration=integration, since=at, until=at + 2 * HOUR, **more)
    log.decisions.put_brownout(once, at)


async def test_where_nothing_is_on_it_says_how_to_begin(
    session: aiohttp.ClientSession, database: str
) -> None:
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/brownouts")

    assert "No brownout is on or to come." in text_of(page)
    assert "None was decided: harvest-bridge sunset" in text_of(page)
    assert text_of(page.get_element_by_id("brownouts-on")) == ""


async def test_it_shows_what_is_on_whom_that_hits_and_who_was_hit(
    session: aiohttp.ClientSession, database: str, log: Log
) -> None:
    begin(log, calls="reads")
    log.decisions.put_brownout(
        Brownout(schedule="2099-01-01 10:00-11:00", time_zone="Asia/Tokyo"), now()
    )
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/brownouts")

    on, coming = page.xpath("//section[@aria-labelledby='planned']//tbody/tr")
    assert "reads calls of all integrations on" in text_of(on)
    assert "2099-01-01 10:00-11:00 (Asia/Tokyo) command" in text_of(coming)
    (hit,) = page.xpath("//section[@aria-labelledby='would-be']//tbody/tr")
    assert text_of(hit).startswith("billing 1 0 GET")
    (was,) = page.xpath("//section[@aria-labelledby='were']//tbody/tr")
    assert text_of(was).startswith("billing 1 0 brownout ")


async def test_every_page_says_what_is_on_and_ends_it(
    session: aiohttp.ClientSession, database: str, log: Log
) -> None:
    begin(log, BILLING)
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/calls")
        (form,) = page.xpath("//*[@id='brownouts-on']//form")
        assert "Brownout: all calls of billing are turned away until" in text_of(form)
        assert f"harvest-bridge brownout --end {BILLING}" in text_of(form)
        async with session.post(f"{url}/brownouts", data=dict(form.fields)) as response:
            assert response.url.path == "/calls"
        page = await got(session, f"{url}/calls")

    assert text_of(page.get_element_by_id("brownouts-on")) == ""
    assert planned(log.decisions.brownouts(), now()) == []


async def test_nobody_ends_it_without_the_token_of_the_form(
    session: aiohttp.ClientSession, database: str, log: Log
) -> None:
    begin(log)
    async with (
        running_dashboard(database) as url,
        session.post(f"{url}/brownouts", data={"integration": ""}) as response,
    ):
        assert response.status == 403

    assert [each.is_on for each in planned(log.decisions.brownouts(), now())] == [True]


async def test_it_needs_no_attention_besides(session: aiohttp.ClientSession, database: str) -> None:
    """Neither as a warning, which every page has at its top, nor as logins that were refused."""
    async with running_dashboard(database, Facts(warnings={"brownout": "all calls"})) as url:
        page = await got(session, f"{url}/overview")

    assert "What needs attention In the last 30 days. Nothing." in text_of(page)
    assert "turned away on purpose" in text_of(page)


async def test_names_are_no_more_than_text(
    session: aiohttp.ClientSession, database: str, log: Log
) -> None:
    log.describe(BILLING, name=SCRIPT, owner=SCRIPT)
    log.decisions.put_sunset(BILLING, now() + DAY)
    begin(log, BILLING)
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/brownouts")

    assert text_of(page).count(SCRIPT) >= 4
    assert not page.xpath("//script[not(@src)]")
