"""The dashboard in a real browser: what an operator does, in both themes, on a phone and on a desk."""

import asyncio
import shutil
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, async_playwright, expect

from bridge.record.log.capture import Mode, Rule
from bridge.record.log.database import load_key, open_database
from bridge.record.log.ingest import ingest
from bridge.record.log.reports import Log
from bridge.sandbox.app import create_sandbox
from tests.support.dashboards import (
    FLAGS,
    MINUTE,
    TROUBLED,
    a_captured_call,
    a_month,
    fill,
    running_dashboard,
    some_connections,
)
from tests.support.legacy import LegacyClient
from tests.support.running import running_app, running_service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt install chromium"),
    pytest.mark.asyncio(loop_scope="module"),  # the browser's, which takes long to start
]

PHONE, DESK = 375, 1280
"""Pixels across."""

PAGES = (
    "/overview", "/overview?days=1", "/integrations", "/integrations/c0ffee000001", "/calls",
    "/calls?outcome=refused", "/calls/captured-1", "/calls/uncaptured-1", "/brownouts", "/switch-off",
    "/calls/none",
)  # fmt: skip


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A month of mixed calls, one of them captured."""
    call, exchange = a_captured_call()
    other = msgspec.structs.replace(
        call,
        id=call.id + 1,
        request_id="uncaptured-1",
        integration="c0ffee000002",
        label="reminders",
    )
    calls = [*a_month(calls=900, integrations=12), call, other]
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    fill(path, calls, some_connections(), {call.id: exchange})
    return path


@pytest.fixture
def database(month: Path, tmp_path: Path) -> str:
    """The same, for a test to write to."""
    for file in month.parent.iterdir():
        shutil.copy2(file, tmp_path)
    return str(tmp_path / month.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox() -> AsyncIterator[str]:
    """The base URL of a fresh sandbox's v2, in the browser's event loop."""
    async with running_app(create_sandbox()) as url:
        yield f"{url}/v2"


@asynccontextmanager
async def looking(
    browser: Browser, url: str, *, width: int = DESK, scheme: str = "light", scripts: bool = True
) -> AsyncIterator[Page]:
    """Yield a page; at the end, no error was on its console, and nothing was asked of others."""
    context = await browser.new_context(
        base_url=url,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    page = await context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(10_000)
    yield page
    await context.close()
    assert [each for each in errors if "404" not in each] == []
    assert asked
    assert all(each.startswith(url) for each in asked)


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "dark"), (DESK, "light")])
async def test_no_page_shuts_anybody_out(
    browser: Browser, database: str, width: int, scheme: str
) -> None:
    """axe finds nothing serious, and nothing has to be scrolled sideways."""
    capture(database, "", raw=False)
    capture(database, "c0ffee000001", raw=True)
    async with (
        running_dashboard(database, TROUBLED) as url,
        looking(browser, url, width=width, scheme=scheme) as page,
    ):
        for path in PAGES:
            await page.goto(path)
            for details in await page.locator("details").all():
                await details.evaluate("each => each.open = true")
            found = (await Axe().run(page)).response["violations"]
            serious = [
                (
                    path,
                    each["id"],
                    each["nodes"][0]["html"][:200],
                    each["nodes"][0]["failureSummary"],
                )
                for each in found
                if each["impact"] in {"serious", "critical"}
            ]
            assert serious == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path


@pytest.mark.parametrize("width", [PHONE, DESK])
async def test_a_call_is_found_by_a_filter_and_opened(
    browser: Browser, database: str, width: int
) -> None:
    async with running_dashboard(database) as url, looking(browser, url, width=width) as page:
        await page.goto("/")
        await page.get_by_role("link", name="Calls", exact=True).click()
        await page.get_by_label("Integration", exact=True).select_option(label="billing")
        await page.get_by_label("Outcome").select_option(label="served")
        await page.get_by_role("button", name="Filter").click()
        assert "integration=c0ffee000001" in page.url
        assert "outcome=served" in page.url
        rows = page.locator("table.calls tbody tr")
        await expect(rows).to_have_count(1)
        await rows.get_by_role("link").first.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "GET /invoices/{invoice_id}/messages"
        )
        v1 = page.locator("#side-v1").locator("..")
        await expect(v1.get_by_text("<full-recipient-list>").first).to_be_visible()


async def test_what_corresponds_lights_up_on_both_sides(browser: Browser, database: str) -> None:
    async with running_dashboard(database) as url, looking(browser, url) as page:
        await page.goto("/calls/captured-1")
        await page.get_by_label("recipients on the other side").first.hover()
        lit = page.locator(".paired")
        await expect(lit).to_have_count(2)
        await expect(lit.first).to_contain_text("full-recipient-list")
        await expect(lit.last).to_contain_text('"recipients"')


async def test_without_a_script_a_mark_leads_to_the_other_side(
    browser: Browser, database: str
) -> None:
    async with (
        running_dashboard(database) as url,
        looking(browser, url, scripts=False) as page,
    ):
        await page.goto("/calls/captured-1")
        await page.get_by_label("recipients on the other side").first.click()
        assert page.url.rpartition("#")[2].startswith("v2-")
        await expect(page.locator(".line:has(:target)")).to_contain_text('"recipients"')


@pytest.mark.parametrize("scripts", [True, False])
async def test_an_integration_is_named_and_its_state_is_set(
    browser: Browser, database: str, scripts: bool
) -> None:
    async with (
        running_dashboard(database) as url,
        looking(browser, url, scripts=scripts) as page,
    ):
        await page.goto("/integrations?search=billing")
        await page.get_by_role("link", name="billing").click()
        await page.get_by_label("Name").fill("Billing <b>of</b> Acme")
        await page.get_by_label("Owner").fill("Jane")
        await page.get_by_label("State").select_option("contacted")
        await page.get_by_label("Remark").fill("Wrote to her.\nShe is back in May.")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Billing <b>of</b> Acme")
        await page.get_by_role("link", name="Switch it off?").click()
        row = page.get_by_role("row", name="Billing <b>of</b> Acme")
        await expect(row).to_contain_text("contacted")
        await expect(row).to_contain_text("Jane")


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_capture_is_begun_and_ended(browser: Browser, database: str, scripts: bool) -> None:
    async with (
        running_dashboard(database) as url,
        looking(browser, url, width=PHONE, scripts=scripts) as page,
    ):
        await page.goto("/calls/uncaptured-1")
        await page.get_by_label("Which").select_option("those not served")
        await page.get_by_label("For how long").select_option("8 hours")
        await page.get_by_role("button", name="Capture").click()
        await page.get_by_role("link", name="Overview").click()
        banner = page.get_by_role("status", name="What is captured")
        await expect(banner).to_contain_text("calls of reminders that are not served until")
        await banner.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        await expect(banner).to_be_empty()


async def test_a_capture_is_said_on_a_page_that_is_open(browser: Browser, database: str) -> None:
    async with running_dashboard(database) as url, looking(browser, url) as page:
        await page.clock.install()
        await page.goto("/integrations/c0ffee000001")
        await page.get_by_label("Name").fill("half a na")
        banner = page.get_by_role("status", name="What is captured")
        capture(database, "c0ffee000001", raw=False)
        await page.clock.run_for(11_000)
        await expect(banner).to_contain_text("all calls of billing")
        capture(database, "", raw=False)
        await page.clock.run_for(11_000)
        stopped = banner.locator("[name=integration]").first
        await expect(stopped).to_have_value("")

        await expect(page.get_by_label("Name")).to_have_value("half a na")


def capture(database: str, integration: str, *, raw: bool) -> None:
    now = time.time_ns() // 1_000_000
    with closing(Log.open(database)) as log:
        log.decisions.put_capture_rule(
            Rule(
                integration=integration, mode=Mode.ALL, raw=raw, since=now, until=now + 60 * MINUTE
            )
        )


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_theme_is_chosen_and_stays(browser: Browser, database: str, scripts: bool) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    async with (
        running_dashboard(database) as url,
        looking(browser, url, scripts=scripts) as page,
    ):
        await page.goto("/overview")
        light = await page.evaluate(ground)
        await page.emulate_media(color_scheme="dark")
        dark = await page.evaluate(ground)
        await page.get_by_role("button", name="Light").click()
        chosen = await page.evaluate(ground)
        await page.goto("/calls")
        later = await page.evaluate(ground)

    assert light != dark
    assert chosen == later == light


async def test_everything_is_done_by_the_keyboard(browser: Browser, database: str) -> None:
    async with running_dashboard(database) as url, looking(browser, url) as page:
        await page.goto("/integrations/c0ffee000001")
        await page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await tab_to(page, "name")
        await page.keyboard.type("By keyboard")
        await tab_to(page, "state")
        await page.keyboard.type("done")
        await tab_to(page, "Save")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("By keyboard")
        await expect(page.locator(".head .state")).to_have_text("done")


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this id or text has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(
            "[document.activeElement.id, document.activeElement.textContent.trim()]"
        )
        if name in focused:
            return
    pytest.fail(f"Tab does not lead to {name}")


async def test_a_tooltip_says_what_a_bar_stands_for(browser: Browser, database: str) -> None:
    async with running_dashboard(database) as url, looking(browser, url) as page:
        await page.goto("/overview")
        await page.locator("#by-outcome .bars a").nth(20).hover()
        await expect(page.locator("#tip")).to_be_visible()
        await expect(page.locator("#tip")).to_contain_text("served:")
        await page.keyboard.press("Escape")
        await expect(page.locator("#tip")).to_be_hidden()


async def test_a_page_refreshes_itself_and_disturbs_nobody(browser: Browser, database: str) -> None:
    """What is new comes; scroll, focus, what is open and what is typed stay as they are."""
    async with running_dashboard(database) as url, looking(browser, url) as page:
        await page.clock.install()
        await page.goto("/integrations/c0ffee000001")
        await page.locator("#by-outcome summary").click()
        await page.get_by_label("Name").fill("half a na")
        await page.evaluate("scrollTo(0, 150)")
        await page.evaluate("window.kept = document.querySelector('#by-outcome')")
        calls = page.locator(".figures div", has_text="Calls").locator("dd")
        await expect(calls).to_have_text("1")
        another_call(database)
        await page.clock.run_for(11_000)
        await expect(calls).to_have_text("2")

        assert await page.evaluate("document.querySelector('#by-outcome details').open")
        assert await page.evaluate("document.querySelector('#by-outcome') === window.kept")
        assert await page.evaluate("scrollY") == 150
        await expect(page.get_by_label("Name")).to_have_value("half a na")
        await expect(page.get_by_label("Name")).to_be_focused()
        await page.get_by_role("button", name="Live").click()
        another_call(database)
        await page.clock.run_for(60_000)
        await expect(page.get_by_role("button", name="Paused")).to_be_visible()
        await expect(calls).to_have_text("2")


def another_call(database: str) -> None:
    call, _ = a_captured_call(minutes_ago=0)
    now = datetime.now(UTC)
    new = msgspec.structs.replace(
        call, id=int(now.timestamp() * 1000) << 22, timestamp=now, request_id="another"
    )
    engine = open_database(database, load_key(database, None))
    with engine.begin() as connection:
        ingest(connection, [new])
    engine.dispose()


async def test_a_page_says_that_it_has_no_answer(browser: Browser, database: str) -> None:
    async with running_dashboard(database) as url:
        context = await browser.new_context(base_url=url)
        page = await context.new_page()
        await page.clock.install()
        await page.goto("/overview")
        await page.route("**/overview", lambda route: route.abort())
        await page.clock.run_for(11_000)
        await expect(page.get_by_role("button", name="No answer")).to_be_visible()
        await context.close()


async def test_what_a_client_sends_to_the_bridge_stays_text(
    browser: Browser, sandbox: str, tmp_path: Path
) -> None:
    """By way of the real endpoint and its log."""
    script = (
        "<script>document.title='caught'</script><img src=x onerror=\"document.title='caught'\">"
    )
    async with running_service(sandbox, account_id=1000, database=str(tmp_path / "log")) as (
        service,
        client,
    ):
        await attack(client, script)
        url = f"http://127.0.0.1:{service.admin_port}"
        await until_recorded(url, 3)
        async with looking(browser, url) as page:
            await page.goto("/calls")
            rows = await page.locator("table.calls th a").evaluate_all(
                "all => all.map(a => a.href)"
            )
            whose = await page.locator("table.calls td a").evaluate_all(
                "all => all.map(a => a.href)"
            )
            for each in ["/overview", "/integrations", "/switch-off", *rows, *whose]:
                await page.goto(each)
                assert "caught" not in await page.title()
                assert await page.locator("main img").count() == 0


async def test_with_a_token_one_logs_in_and_out(
    browser: Browser, sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "a-token-of-some-length-0123456789")
    settings = {"database": str(tmp_path / "log"), "admin_bearer_token": "env:ADMIN_TOKEN"}
    async with running_service(sandbox, account_id=1000, **settings) as (service, _):
        url = f"http://127.0.0.1:{service.admin_port}"
        async with looking(browser, url) as page:
            await page.goto("/calls?outcome=refused")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
            found = (await Axe().run(page)).response["violations"]
            assert not [each for each in found if each["impact"] in {"serious", "critical"}]
            await page.get_by_label("Token").fill("a-token-of-some-length-0123456789")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Calls")
            assert page.url == f"{url}/calls?outcome=refused"
            await page.get_by_role("button", name="Log out").click()
            await page.goto("/calls")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


async def attack(client: LegacyClient, script: str) -> None:
    base = f"http://{client.host}:{client.port}"
    credential = b64encode(b"<script>@example.com:sandbox-token").decode()
    headers = {
        "User-Agent": script, "X-Request-Id": "<script>", "Authorization": f"Basic {credential}",
    }  # fmt: skip
    async with aiohttp.ClientSession(headers=headers) as session:
        for path, status in (
            ("/invoice/1420/messages", 200),
            (f"/clients/{script}", 501),
            ("/invoice/<script>", 501),
        ):
            async with session.get(base + path) as response:
                assert response.status == status


async def until_recorded(url: str, count: int) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            async with session.get(f"{url}/overview.json") as response:
                if response.status == 200 and (await response.json())["calls"] >= count:
                    return
            await asyncio.sleep(0.05)
    pytest.fail("the calls were not recorded")
