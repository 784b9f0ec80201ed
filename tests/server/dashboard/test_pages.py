"""The pages of the dashboard as they are sent: well-formed, complete without a script, the same as
JSON, and nothing that a client controls is more than text.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import pytest
from lxml import html

from bridge.record.log.capture import Rule
from bridge.record.log.events import CallEvent, ConnectionEvent, NoteEvent, UpstreamCallEvent
from bridge.record.log.reports import Log
from bridge.server.admin.dashboard import pages, words
from bridge.server.admin.dashboard.facts import Facts
from bridge.server.admin.dashboard.pages import PAGES, Asked
from tests.support.comparisons import compared_log
from tests.support.dashboards import (
    MINUTE,
    TROUBLED,
    a_captured_call,
    a_month,
    fill,
    running_dashboard,
    some_connections,
)
from tests.support.recorded_days import recorded_days

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A month of mixed calls, one of them captured."""
    call, exchange = a_captured_call()
    calls = [*a_month(), call]
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    return fill(path, calls, some_connections(), {call.id: exchange})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # A browser keeps cookies of an IP address, too.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(
        headers={"Accept": "text/html,*/*"}, cookie_jar=jar
    ) as session:
        yield session


async def got(session: aiohttp.ClientSession, url: str, status: int = 200) -> html.HtmlElement:
    async with session.get(url) as response:
        text = await response.text()
        assert response.status == status, text
        assert response.content_type == "text/html"
    return html.document_fromstring(text)


async def got_json(session: aiohttp.ClientSession, url: str, status: int = 200) -> Any:
    async with session.get(url, headers={"Accept": "application/json"}) as response:
        text = await response.text()
        assert response.status == status, text
        assert response.content_type == "application/json"
    # A mean may differ in its last digits by the order of what was summed.
    return json.loads(text, parse_float=lambda digits: round(float(digits), 6))


async def paths(session: aiohttp.ClientSession, url: str) -> list[str]:
    """Return a path to every page."""
    overview = await got_json(session, f"{url}/overview.json")
    calls = await got_json(session, f"{url}/calls.json")
    ids = {
        "/integrations/{id}": overview["integrations"][0]["id"],
        "/calls/{id}": calls["page"]["rows"][0]["id"],
    }
    found = [page.path.replace("{id}", str(ids.get(page.path, ""))) for page in PAGES]
    return [*found, "/calls/captured-1", "/overview?days=1", "/calls?outcome=refused"]


def text_of(page: html.HtmlElement) -> str:
    return " ".join(" ".join(page.itertext()).split())


async def test_every_page_can_be_read_by_whoever_cannot_see_it(
    session: aiohttp.ClientSession, database: str
) -> None:
    """One heading of the first order, none left out below, landmarks, labels, captions, scopes."""
    async with running_dashboard(database, TROUBLED) as url:
        for path in await paths(session, url):
            page = await got(session, url + path)

            assert len(page.xpath("//h1")) == 1, path
            levels = [int(each.tag[1]) for each in page.xpath("//h1|//h2|//h3|//h4")]
            assert all(after <= before + 1 for before, after in pairwise(levels)), path
            assert page.get("lang") == "en"
            assert len(page.xpath("//main[@id='content']")) == 1
            assert page.xpath("//a[@href='#content']")
            ids = page.xpath("//@id")
            assert len(ids) == len(set(ids)), path
            labelled = set(page.xpath("//label/@for"))
            for field in page.xpath("//main//input[not(@type='hidden')]|//select|//textarea"):
                assert field.get("id") in labelled, path
            for table in page.xpath("//table"):
                assert table.xpath("caption"), path
                assert not table.xpath(".//th[not(@scope)]"), path
            for each in page.xpath("//@aria-labelledby"):
                assert each in ids


async def test_every_page_works_without_a_script_and_without_the_internet(
    session: aiohttp.ClientSession, database: str
) -> None:
    """Nothing is inline that the policy forbids, and all that is fetched is ours."""
    async with running_dashboard(database, TROUBLED) as url:
        fetched = set()
        for path in await paths(session, url):
            page = await got(session, url + path)

            assert not page.xpath("//script[not(@src)]|//style|//*[@style]")
            assert not page.xpath("//@*[starts-with(name(), 'on')]")
            fetched |= {*page.xpath("//script/@src|//img/@src|//iframe/@src|//link/@href")}
        assert all(each.startswith("/") and not each.startswith("//") for each in fetched)
        for each in fetched:
            async with session.get(url + each) as response:
                assert response.status == 200, each
                policy = response.headers["Content-Security-Policy"]
                assert "unsafe-inline" not in policy


async def test_behind_every_page_is_the_same_as_json(
    session: aiohttp.ClientSession, database: str
) -> None:
    async with running_dashboard(database) as url:
        for path in await paths(session, url):
            page = await got(session, url + path)
            (link,) = page.xpath("//link[@rel='alternate']/@href")

            assert await got_json(session, url + link)


async def test_every_page_is_the_same_of_postgresql(
    session: aiohttp.ClientSession, database: str, postgres: str, tmp_path: Path
) -> None:
    call, exchange = a_captured_call(minutes_ago=90)
    calls = [*recorded_days(calls=500, integrations=8, days=20, until=datetime.now(UTC)), call]
    captures = {call.id: exchange}
    lite = fill(tmp_path / "log.sqlite", calls, captures=captures)
    server = fill(postgres, calls, captures=captures, key=tmp_path / "key")
    async with running_dashboard(lite) as one, running_dashboard(server) as other:
        for path in await paths(session, one):
            where, _, query = path.partition("?")
            of_one = await got_json(session, f"{one}{where}.json?{query}")
            of_other = await got_json(session, f"{other}{where}.json?{query}")
            of_one["now"] = of_other["now"] = 0
            assert of_other == of_one, path


async def test_the_overview_counts_what_its_json_counts(
    session: aiohttp.ClientSession, database: str
) -> None:
    async with running_dashboard(database, TROUBLED) as url:
        told = await got_json(session, f"{url}/overview.json")
        text = text_of(await got(session, f"{url}/overview"))

    by_outcome = sum(sum(each["values"]) for each in told["by_outcome"]["series"])
    by_integration = sum(sum(each["values"]) for each in told["by_integration"]["series"])
    assert told["calls"] == by_outcome == by_integration
    assert f"Calls {told['calls']:,}" in text
    for refusal in told["attention"]["refusals"]:
        assert f"{refusal['reason']} {refusal['calls']:,}" in text
    assert "2 writes of unknown outcome" in text
    assert "breaker, account 1007 open" in text
    assert "expires in 9 days" in text


@pytest.mark.parametrize("days", [1, 7, 30])
async def test_all_that_is_counted_on_the_overview_agrees(
    session: aiohttp.ClientSession, database: str, days: int
) -> None:
    async with running_dashboard(database) as url:
        told = await got_json(session, f"{url}/overview.json?days={days}")

    attention = told["attention"]
    assert sum(each["calls"] for each in attention["untranslated"]) == told["outcomes"].get(
        "untranslated", 0
    )
    assert sum(each["calls"] for each in attention["refusals"]) == told["outcomes"].get(
        "refused", 0
    )
    if days == 30:
        charted = {each["key"]: sum(each["values"]) for each in told["by_integration"]["series"]}
        listed = {each["id"]: each["calls"] for each in told["integrations"]}
        assert listed.keys() & charted.keys()
        assert all(charted.get(each, calls) == calls for each, calls in listed.items())
        assert {each: sum(told["sparks"][each]) for each in listed} == listed


async def test_integrations_of_one_title_are_told_apart(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    call, _ = a_captured_call()
    calls = [
        msgspec.structs.replace(call, id=call.id + at, integration=integration, label=None)
        for at, integration in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb"))
    ]
    async with running_dashboard(fill(tmp_path / "log.sqlite", calls)) as url:
        for path in ("/overview", "/integrations", "/calls", "/switch-off"):
            shown = text_of(await got(session, url + path))
            for id_ in ("aaaaaa", "bbbbbb"):
                assert f"acme, HarvestAPI-PHP, 192.0.2.7 ({id_})" in shown, path


async def test_an_hour_is_not_told_as_if_its_minute_were_known(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    call, _ = a_captured_call(minutes_ago=0)
    async with running_dashboard(fill(tmp_path / "log.sqlite", [call])) as url:
        page = await got(session, f"{url}/integrations/{call.integration}")

    (last,) = page.xpath("//section[@aria-labelledby='routes']//td[@data-label='Last']")
    assert text_of(last) == "in this hour"


async def test_a_chart_is_a_table_as_well(session: aiohttp.ClientSession, database: str) -> None:
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/overview")

    (figure,) = page.xpath("//figure[@id='by-outcome']")
    drawn = [
        each.split("\n")[0] for each in figure.xpath(".//a/@data-tip") if "no calls" not in each
    ]
    assert [each.text_content() for each in figure.xpath(".//tbody//th")] == drawn
    assert figure.xpath(".//*[@aria-hidden='true']//*[local-name()='svg']")


class TestCalls:
    @pytest.mark.parametrize(
        ("wanted", "holds"),
        [
            ({"outcome": "refused"}, lambda row: row["outcome"] == "refused"),
            ({"status": "501"}, lambda row: row["status"] == 501),
            ({"method": "DELETE"}, lambda row: row["method"] == "DELETE"),
            ({"route": "/account/who_am_i"}, lambda row: row["route"] == "/account/who_am_i"),
            (
                {"note": "element-dropped"},
                lambda row: "element-dropped" in [each["code"] for each in row["notes"]],
            ),
            ({"refusal": "no-credential"}, lambda row: row["refusal"] == "no-credential"),
            ({"request_id": "captured-1"}, lambda row: row["request_id"] == "captured-1"),
            ({"integration": "c0ffee000001"}, lambda row: row["title"] == "billing"),
        ],
    )
    async def test_are_filtered_by_the_url(
        self,
        session: aiohttp.ClientSession,
        database: str,
        wanted: dict[str, str],
        holds: Any,
    ) -> None:
        async with running_dashboard(database) as url:
            told = await got_json(session, f"{url}/calls.json?{urlencode(wanted)}")
            page = await got(session, f"{url}/calls?{urlencode(wanted)}")

        rows = told["page"]["rows"]
        assert rows
        assert all(map(holds, rows))
        assert len(page.xpath("//table[contains(@class, 'calls')]/tbody/tr")) == len(rows)
        for name, value in wanted.items():
            (field,) = page.xpath(f"//*[@id='{name}']")
            assert field.value == value

    async def test_are_paged_to_the_last_each_once(
        self, session: aiohttp.ClientSession, database: str
    ) -> None:
        seen: list[int] = []
        async with running_dashboard(database) as url:
            path = "/calls?outcome=untranslated"
            while path:
                told = await got_json(session, url + path.replace("/calls", "/calls.json"))
                seen += [row["id"] for row in told["page"]["rows"]]
                page = await got(session, url + path)
                path = next(iter(page.xpath("//a[@rel='next']/@href")), "")
            everything = await got_json(session, f"{url}/overview.json?days=90")

        assert seen == sorted(set(seen), reverse=True)
        assert len(seen) == everything["outcomes"]["untranslated"]

    @pytest.mark.parametrize(
        "query",
        [
            "outcome=nonsense",
            "status=abc",
            "since=yesterday",
            "until=9999-12-31T23:59-23:59",
            "before=-1",
            "before=" + "9" * 19,
        ],
    )
    async def test_a_filter_that_makes_no_sense_is_said_so(
        self, session: aiohttp.ClientSession, database: str, query: str
    ) -> None:
        async with running_dashboard(database) as url:
            page = await got(session, f"{url}/calls?{query}", 400)

        assert query.partition("=")[0] in text_of(page)

    @pytest.mark.parametrize(
        "path", ["/calls/1", f"/calls/{'9' * 5000}", "/calls/nonsense", "/integrations/nobody"]
    )
    async def test_what_is_not_there_is_not_found(
        self, session: aiohttp.ClientSession, database: str, path: str
    ) -> None:
        async with running_dashboard(database) as url:
            await got(session, url + path, 404)
            await got_json(session, f"{url}{path}.json", 404)

    async def test_one_that_was_not_captured_says_how_to_have_the_next_ones(
        self, session: aiohttp.ClientSession, database: str
    ) -> None:
        async with running_dashboard(database) as url:
            calls = await got_json(session, f"{url}/calls.json?outcome=served&method=POST")
            row = calls["page"]["rows"][0]
            page = await got(session, f"{url}/calls/{row['id']}")

        assert f"harvest-bridge capture {row['integration']} all --for 1h" in text_of(page)

    async def test_both_sides_of_a_captured_one_lead_to_each_other(
        self, session: aiohttp.ClientSession, database: str
    ) -> None:
        async with running_dashboard(database) as url:
            page = await got(session, f"{url}/calls/captured-1")

        targets = set(page.xpath("//@id"))
        links = page.xpath("//pre//a/@href")
        assert len(links) == 56
        assert all(link[1:] in targets for link in links)


class TestDescribing:
    async def test_an_integration_stays(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        call, _ = a_captured_call()
        database = fill(tmp_path / "log.sqlite", [call])
        path = f"/integrations/{call.integration}"
        async with running_dashboard(database) as url:
            (form,) = (await got(session, url + path)).find_class("describe")
            form.fields.update(name="Billing", owner="Jane", state="migrating", remark="By May")
            async with session.post(
                url + path, data=dict(form.fields), allow_redirects=False
            ) as response:
                assert (response.status, response.headers["Location"]) == (303, path)
            told = await got_json(session, f"{url}{path}.json")
            shown = text_of(await got(session, f"{url}/switch-off"))

        integration = told["integration"]
        assert [integration[name] for name in ("name", "owner", "state", "remark")] == [
            "Billing", "Jane", "migrating", "By May",
        ]  # fmt: skip
        assert "Billing Jane migrating 0 still calls" in shown

    async def test_takes_the_token_of_the_form(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        call, _ = a_captured_call()
        database = fill(tmp_path / "log.sqlite", [call])
        path = f"/integrations/{call.integration}"
        async with running_dashboard(database) as url:
            await got(session, url + path)
            async with session.post(url + path, data={"name": "Mine"}) as response:
                assert response.status == 403
            told = await got_json(session, f"{url}{path}.json")

        assert told["integration"]["name"] is None


async def test_what_is_captured_is_not_told_twice(
    session: aiohttp.ClientSession, database: str
) -> None:
    async with running_dashboard(database, Facts(warnings={"capture": "all calls"})) as url:
        page = await got(session, f"{url}/overview")

    assert "all calls" not in text_of(page)


class TestCapturing:
    """By the form of an integration's page, and of a call's."""

    @pytest.fixture
    def log(self, tmp_path: Path) -> str:
        call, exchange = a_captured_call()
        return fill(tmp_path / "log.sqlite", [call], captures={call.id: exchange})

    @pytest.mark.parametrize("path", ["/integrations/c0ffee000001", "/calls/captured-1"])
    async def test_is_switched_on_for_a_while_and_said_on_every_page(
        self, session: aiohttp.ClientSession, log: str, path: str
    ) -> None:
        async with running_dashboard(log) as url:
            (form,) = (await got(session, url + path)).find_class("capture")
            form.fields.update(mode="errors", span="15m")
            async with session.post(
                f"{url}/captures", data=dict(form.fields), allow_redirects=False
            ) as response:
                assert (response.status, response.headers["Location"]) == (303, path)
            (rule,) = rules_of(log)
            shown = [await got(session, url + each) for each in await paths(session, url)]

        assert (rule.integration, rule.mode, rule.raw) == ("c0ffee000001", "errors", False)
        assert rule.until - rule.since == 15 * MINUTE
        for page in shown:
            banner = page.get_element_by_id("captures")
            assert "calls of billing that are not served" in text_of(banner)
            assert f"until {words.moment(rule.until)} UTC" in text_of(banner)

    async def test_may_be_of_all_integrations(
        self, session: aiohttp.ClientSession, log: str
    ) -> None:
        async with running_dashboard(log) as url:
            await capture(session, url, integration="", mode="all")
            page = await got(session, f"{url}/overview")

        assert [(rule.integration, rule.mode) for rule in rules_of(log)] == [("", "all")]
        assert "all calls of all integrations" in text_of(page.get_element_by_id("captures"))

    async def test_is_switched_off_where_it_is_said(
        self, session: aiohttp.ClientSession, log: str
    ) -> None:
        async with running_dashboard(log) as url:
            await capture(session, url, mode="all")
            (form,) = (await got(session, f"{url}/switch-off")).xpath("//*[@id='captures']//form")
            async with session.post(f"{url}/captures", data=dict(form.fields)) as response:
                assert response.url.path == "/switch-off"
            page = await got(session, f"{url}/switch-off")

        assert rules_of(log) == []
        assert text_of(page.get_element_by_id("captures")) == ""

    async def test_one_integration_is_kept_out_of_a_rule_for_all(
        self, session: aiohttp.ClientSession, log: str
    ) -> None:
        async with running_dashboard(log) as url:
            await capture(session, url, integration="", mode="all")
            await capture(session, url, mode="off")
            told = await got_json(session, f"{url}/integrations/c0ffee000001.json")

        assert [rule.mode for rule in rules_of(log)] == ["all", "off"]
        assert told["capture"]["mode"] == "off"

    @pytest.mark.parametrize(
        "wrong",
        [{"mode": "some"}, {"mode": ""}, {"span": "8d"}, {"span": "0m"}, {"span": "soon"}],
    )
    async def test_what_makes_no_sense_changes_nothing(
        self, session: aiohttp.ClientSession, log: str, wrong: dict[str, str]
    ) -> None:
        async with running_dashboard(log) as url:
            await capture(session, url, 400, **wrong)

        assert rules_of(log) == []

    async def test_is_of_an_integration_that_there_is(
        self, session: aiohttp.ClientSession, log: str
    ) -> None:
        async with running_dashboard(log) as url:
            await capture(session, url, 404, integration="c0ffee000009")

        assert rules_of(log) == []

    async def test_takes_the_token_of_the_form(
        self, session: aiohttp.ClientSession, log: str
    ) -> None:
        async with running_dashboard(log) as url:
            await capture(session, url, 403, csrf_token="made-up")

        assert rules_of(log) == []

    async def test_is_raw_only_for_somebody_who_has_shown_the_token(
        self, session: aiohttp.ClientSession, log: str
    ) -> None:
        """Without one, whoever is on the machine could read what customers are written."""
        async with running_dashboard(log) as url:
            page = await got(session, f"{url}/integrations/c0ffee000001")
            await capture(session, url, 403, raw="yes")

        assert page.xpath("//form[@class='capture']//input[@name='raw']") == []
        assert "admin_bearer_token" in text_of(page.find_class("capture")[0])
        assert rules_of(log) == []

    async def test_with_the_token_it_is_raw_where_that_is_ticked(self, log: str) -> None:
        token = "a-token-of-some-length-0123456789"
        headers = {"Accept": "text/html", "Authorization": f"Bearer {token}"}
        async with (
            running_dashboard(log, token=token) as url,
            aiohttp.ClientSession(headers=headers) as session,
        ):
            page = await got(session, f"{url}/integrations/c0ffee000001")
            (tick,) = page.xpath("//form[@class='capture']//input[@name='raw']")
            await capture(session, url, raw="yes")
            banner = (await got(session, f"{url}/overview")).get_element_by_id("captures")

        assert not tick.checked
        assert [rule.raw for rule in rules_of(log)] == [True]
        assert "with addresses, names and texts" in text_of(banner)


async def capture(session: aiohttp.ClientSession, url: str, status: int = 303, **said: str) -> None:
    """Send the form of the integration, with what is said in place of what it has."""
    page = await got(session, f"{url}/integrations/c0ffee000001")
    (form,) = page.find_class("capture")
    data = {**dict(form.fields), **said}
    async with session.post(f"{url}/captures", data=data, allow_redirects=False) as response:
        assert response.status == status, await response.text()


def rules_of(database: str) -> list[Rule]:
    with closing(Log.open(database)) as log:
        return log.decisions.capture_rules()


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
async def test_a_theme_is_remembered_and_leads_back(
    session: aiohttp.ClientSession, database: str, theme: str
) -> None:
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/calls?outcome=refused")
        form = {**dict(page.forms[0].fields), "theme": theme}
        async with session.post(f"{url}/theme", data=form, allow_redirects=False) as response:
            assert response.headers["Location"] == "/calls?outcome=refused"
        page = await got(session, f"{url}/overview")

    assert page.get("data-theme") == theme
    assert page.xpath("//button[@aria-pressed='true']/@value") == [theme]


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example", "/\\evil", "", "x"])
async def test_a_theme_leads_to_nobody_else(
    session: aiohttp.ClientSession, database: str, back: str
) -> None:
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/overview")
        form = {**dict(page.forms[0].fields), "theme": "dark", "back": back}
        async with session.post(f"{url}/theme", data=form, allow_redirects=False) as response:
            assert response.headers["Location"] == "/overview"


def hostile(calls: Iterator[CallEvent]) -> Iterator[CallEvent]:
    """Put a script into every text that a client can have a say in."""
    for call in calls:
        yield msgspec.structs.replace(
            call, request_id=SCRIPT, method="<b>GET</b>", route=None, path=f"/{SCRIPT}",
            subdomain=SCRIPT, host=SCRIPT, user_agent=SCRIPT, agent=SCRIPT, label=SCRIPT,
            network=SCRIPT, address=SCRIPT, http=SCRIPT, tls=SCRIPT, cause=SCRIPT, v2_says=SCRIPT,
            problem=SCRIPT, refusal=SCRIPT, shared_with=SCRIPT, dialect=SCRIPT, format=SCRIPT,
            way=SCRIPT, login=SCRIPT, token=SCRIPT,
            notes=(NoteEvent(SCRIPT, SCRIPT, 1),),
            upstream=(UpstreamCallEvent("GET", SCRIPT, SCRIPT, None, 1.0, SCRIPT, event=SCRIPT),),
        )  # fmt: skip


async def test_a_script_that_a_client_sends_stays_text(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    call, exchange = a_captured_call()
    (made,) = hostile(iter([call]))
    exchange.url = exchange.upstream[0].url = SCRIPT
    exchange.request.headers = ((SCRIPT, SCRIPT),)
    for message in (exchange.request, exchange.answer):
        assert message is not None
        message.body, message.size = SCRIPT.encode(), len(SCRIPT)
    answer = exchange.upstream[0].answer
    assert answer is not None
    answer.body = json.dumps({SCRIPT: SCRIPT}).encode()
    connection = ConnectionEvent(
        event=SCRIPT, timestamp=call.timestamp, network=SCRIPT, reason=SCRIPT, detail=SCRIPT
    )
    database = fill(tmp_path / "log.sqlite", [made], [connection], {call.id: exchange})
    said = {"name": SCRIPT, "owner": SCRIPT, "remark": SCRIPT}
    async with running_dashboard(database) as url:
        path = f"/integrations/{call.integration}"
        form = (await got(session, url + path)).forms[-1]
        async with session.post(url + path, data={**dict(form.fields), **said}) as response:
            assert response.status == 200
        for each in (
            "/overview", "/integrations", path, "/calls", f"/calls/{call.id}", "/switch-off",
            f"/integrations?{urlencode({'search': SCRIPT})}",
            f"/calls?{urlencode({'request_id': SCRIPT, 'route': f'/{SCRIPT}', 'note': SCRIPT})}",
        ):  # fmt: skip
            page = await got(session, url + each)

            assert SCRIPT in page.text_content() or SCRIPT in page.xpath("//@value"), each
            assert [script.get("src") for script in page.xpath("//script")] == [
                "/static/dashboard.js"
            ]
            assert not page.xpath("//img|//@onerror|//main//b[. = 'GET']"), each


async def test_what_no_browser_can_be_sent_is_sent_as_something_else(
    session: aiohttp.ClientSession, database: str
) -> None:
    async with running_dashboard(database) as url:
        page = await got(session, f"{url}/calls?route=%ed%a0%80%00&since=")

    assert "\0" not in page.text_content()


class TestSwitchingOff:
    async def verdict(
        self, session: aiohttp.ClientSession, database: str, query: str = ""
    ) -> tuple[bool, str]:
        async with running_dashboard(database) as url:
            told = await got_json(session, f"{url}/switch-off.json{query}")
            shown = text_of(await got(session, f"{url}/switch-off{query}"))
        assert ("Yes." in shown) == told["can"]
        assert all(each in shown for each in told["because"])
        return told["can"], " ".join(told["because"])

    async def test_nothing_is_known_before_anybody_has_called(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        database = fill(tmp_path / "log.sqlite", [])

        assert await self.verdict(session, database) == (
            False, "Nobody has called yet, so nothing is known.",
        )  # fmt: skip

    async def test_a_caller_of_these_days_stands_in_the_way(
        self, session: aiohttp.ClientSession, database: str
    ) -> None:
        can, because = await self.verdict(session, database)

        assert not can
        assert "called in the last 30 days." in because

    async def test_a_log_that_is_too_young_cannot_say(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        call, _ = a_captured_call(minutes_ago=10 * 24 * 60)
        database = fill(tmp_path / "log.sqlite", [call])

        assert await self.verdict(session, database, "?quiet=7") == (
            True, "Nobody who is known has called for 7 days.",
        )  # fmt: skip
        assert await self.verdict(session, database, "?quiet=14") == (
            False,
            (
                "1 of 1 known integration called in the last 14 days. The log begins 10 days ago: "
                "it cannot know who has been quiet for longer."
            ),
        )

    async def test_a_log_of_a_few_hours_says_so(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        call, _ = a_captured_call()
        _, because = await self.verdict(session, fill(tmp_path / "log.sqlite", [call]), "")

        assert "The log begins less than a day ago:" in because

    async def test_strangers_do_not_stand_in_the_way(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        old, _ = a_captured_call(minutes_ago=100 * 24 * 60)
        new, _ = a_captured_call()
        stranger = msgspec.structs.replace(
            new, integration="badbad000001", is_known=False, status=401, outcome="refused"
        )
        database = fill(tmp_path / "log.sqlite", [old, stranger])

        assert (await self.verdict(session, database))[0]


class TestTrouble:
    async def test_a_database_that_is_not_there_is_a_page_that_says_so(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        async with running_dashboard(str(tmp_path / "none.sqlite")) as url:
            page = await got(session, f"{url}/overview", 503)
            told = await got_json(session, f"{url}/overview.json", 503)

        assert "The translation log does not answer" in text_of(page)
        assert "none.sqlite" in told["status"]

    async def test_one_that_does_not_answer_is_not_waited_for(
        self, session: aiohttp.ClientSession, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor is anything else: pages that need no database come meanwhile."""
        go_on = Event()

        def wait(_log: Log, _asked: Asked) -> None:
            go_on.wait()

        page = PAGES[0]._replace(gather=wait)
        monkeypatch.setattr(pages, "PAGES", (page, *PAGES[1:]))
        try:
            async with running_dashboard(database, patience=0.05) as url:
                stuck = [got(session, f"{url}/overview", 503) for _ in range(pages.MOST_WAITING)]
                assert "no answer within" in text_of((await asyncio.gather(*stuck))[0])
                refused = text_of(await got(session, f"{url}/overview", 503))
                async with session.get(f"{url}/healthz") as response:
                    assert response.status == 200
        finally:
            go_on.set()

        assert "Too many pages wait" in refused

    async def test_one_that_is_locked_by_somebody_is_read_all_the_same(
        self, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        database = fill(tmp_path / "log.sqlite", recorded_days(calls=50, integrations=3, days=5))
        other = sqlite3.connect(database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with running_dashboard(database) as url:
            await got(session, f"{url}/calls")
        other.close()


async def test_how_v1_and_the_bridge_compare_is_shown(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    database = str(tmp_path / "log.sqlite")
    call, *_ = compared_log(database, place=f"/invoice-message/{SCRIPT}")
    async with running_dashboard(database) as url:
        for path in ("/overview", "/integrations", f"/integrations/{call.integration}"):
            page = await got(session, url + path)
            assert "4 of 7 equal" in page.text_content(), path
            assert not page.xpath("//img[@onerror]")
        (row,) = page.xpath("//section[@aria-labelledby='score']//tbody/tr")
        assert SCRIPT in row.text_content()
        assert row.xpath(".//a/@href")[-1] == f"/calls/{call.id}"
        page = await got(session, f"{url}/calls/{call.id}")
        assert "different" in page.text_content()
        assert not page.xpath("//img[@onerror]")
        told = await got_json(session, f"{url}/calls/{call.id}.json")
        assert told["compared"]["result"] == "different"


async def test_what_was_never_compared_has_no_score(
    session: aiohttp.ClientSession, database: str
) -> None:
    async with running_dashboard(database) as url:
        for path in ("/overview", "/integrations"):
            page = await got(session, url + path)
            assert "v1 and bridge" not in page.text_content(), path
