"""`make picture`: the picture of the dashboard in README.md, taken of made-up days."""

import asyncio
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import async_playwright

from bridge.record.log.answers import State
from bridge.record.log.reports import Log
from bridge.server.admin.dashboard.facts import Facts
from tests.support.dashboards import (
    FLAGS,
    a_captured_call,
    a_month,
    fill,
    running_dashboard,
    some_connections,
)

NAMES = (
    ("Nightly invoice run", "Finance", State.MIGRATING),
    ("Reminder mails", "Finance", State.CONTACTED),
    ("Payments import", "Ms Okafor", State.MIGRATING),
    ("CRM sync", "Sales tools", State.CONTACTED),
    ("Month-end report", "Controlling", State.UNKNOWN),
    ("Old intranet", "IT", State.UNKNOWN),
)
"""What an operator may have called those that call most."""

FACTS = Facts(warnings={"certificate": "expires in 9 days"}, unknown_writes=1)


def _recorded(database: Path) -> str:
    call, exchange = a_captured_call()
    name = fill(database, [*a_month(40_000, 26), call], some_connections(), {call.id: exchange})
    log = Log.open(name)
    busiest = sorted(log.integrations(since=0), key=lambda each: each.calls, reverse=True)
    for each, (title, owner, state) in zip(busiest, NAMES, strict=False):
        log.describe(each.id, name=title, owner=owner, state=state)
    log.close()
    return name


async def take(picture: Path) -> None:
    """Write the picture."""
    with TemporaryDirectory() as folder:
        async with (
            running_dashboard(_recorded(Path(folder) / "log.sqlite"), FACTS) as url,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS
            )
            page = await browser.new_page(viewport={"width": 1200, "height": 900})
            await page.goto(f"{url}/overview")
            # Down to where the next card would be cut.
            end = await page.locator(".across").evaluate("each => each.getBoundingClientRect().top")
            await page.screenshot(path=picture, clip={"x": 0, "y": 0, "width": 1200, "height": end})
            await browser.close()


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1])))
