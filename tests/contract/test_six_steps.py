"""From v1 to v2 in six steps, by the commands that an operator gives, with four kinds of clients.

The clients are programs of their own and know v1 only. Between the steps nothing of them is changed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.books import write_token
from tests.support.integrations import ALL, INTEGRATIONS, READS, UNTRANSLATED, WRITES, Integration
from tests.support.operator import Operator, Server, serving

HERE = [each for each in INTEGRATIONS if not each.is_missing]

BILLING, REPORTS, SHOP, CRON = (each.name for each in INTEGRATIONS)
NAMES: Mapping[str, str] = {
    BILLING: "the billing run",
    REPORTS: "the nightly reports",
    SHOP: "the web shop",
    CRON: "the cron job",
}
"""What the operator calls each, once it is known whose it is."""

HELLO = "The message body goes here"


class Rehearsal:
    """The operator, the sandbox that stands for Harvest, and the files of a bridge."""

    def __init__(self, folder: Path, sandbox: Server) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.v1 = sandbox.said.partition("Its v1 is at ")[2].partition(". ")[0]
        self.operator = Operator(str(folder / "log.sqlite"))
        self.book = folder / "book.toml"

    @asynccontextmanager
    async def bridge(self, *more: str, name: str = "log") -> AsyncIterator[Server]:
        """A bridge, whose log is the operator's unless it has another name."""
        settings = {
            "upstream": f"{self.sandbox.url}/v2",
            "legacy-origin": self.v1,
            "auth": "book",
            "book": self.book,
            "subdomain": "acme",
            "contact": "ops@acme.example",
            "port": 0,
            "admin-port": 0,
            "database": self.folder / f"{name}.sqlite",
            "journal": self.folder / f"{name}-journal.sqlite",
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        async with serving("serve", *flags, *more, ready=lambda it: len(it.ports) == 2) as bridge:
            yield bridge

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Tell the sandbox's v1 how to answer, or ask it what came."""
        url = f"{self.v1}/sandbox/{path}"
        async with aiohttp.request(method, url, json=body) as answer:
            return await answer.json() if answer.status != 204 else None

    async def came_to_v1(self) -> list[tuple[str, str]]:
        """Return the calls that v1 was asked, since they were forgotten."""
        calls = (await self.control("GET", "calls"))["calls"]
        return [(call["method"], call["path"]) for call in calls]


async def work(bridge: Server, *steps: str) -> dict[str, list[tuple[str, int, str]]]:
    """Have all clients work beside each other, and wait until all of it is in the log."""
    before = len(bridge.lines("legacy_call"))
    done = await asyncio.gather(*(each.work(bridge.url, *steps) for each in HERE))
    expected = before + len(steps) * len(HERE)
    await bridge.until(lambda: len(bridge.lines("legacy_call")) == expected)
    return {each.name: did for each, did in zip(HERE, done, strict=True)}


def statuses(done: dict[str, list[tuple[str, int, str]]]) -> dict[str, list[int]]:
    """Return the statuses that each client got."""
    return {name: [status for _, status, _ in did] for name, did in done.items()}


def of_all(status: Any) -> dict[str, Any]:
    """Say the same of every client."""
    return {each.name: status for each in HERE}


def table(printed: str) -> list[dict[str, str]]:
    """Read the first table among what was printed: its rows, by the names of the columns."""
    lines = [line.split("\t") for line in printed.splitlines()]
    start = next(at for at, cells in enumerate(lines) if len(cells) > 1)
    rows = lines[start:]
    end = next((at for at, cells in enumerate(rows) if len(cells) < 2), len(rows))
    return [dict(zip(rows[0], cells, strict=True)) for cells in rows[1:end]]


async def listed(operator: Operator, calls: int) -> list[dict[str, str]]:
    """What `integrations` prints, once this many calls are in the database."""
    while True:
        rows = table(await operator.runs("integrations"))
        if sum(int(row["calls"]) for row in rows) >= calls:
            return rows


async def heard(bridge: Server, event: str, times: int) -> None:
    """Wait until the bridge has said so many times that it goes by what was decided."""
    await bridge.until(lambda: len(bridge.lines(event)) >= times)


async def observe(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 1: everything is passed through, and who calls what is recorded."""
    done = await work(bridge, *ALL)

    worked = [*[200] * len(READS), *[201] * len(WRITES), *[200] * len(UNTRANSLATED)]
    assert statuses(done) == of_all(worked)
    assert {did[1] for did in done.values()} == {("show", 200, HELLO)}
    rows = await listed(rehearsal.operator, len(ALL) * len(HERE))
    assert {row["integration"]: (row["calls"], row["errors"]) for row in rows} == of_all(("6", "0"))
    for row, each in (
        (row, each) for row in rows for each in HERE if row["integration"] == each.name
    ):
        assert row["agent"] == each.agent


async def name(rehearsal: Rehearsal) -> None:
    """Step 2: each integration gets a name and an owner."""
    for each in HERE:
        printed = await rehearsal.operator.runs(
            "integrations",
            each.name,
            "--name",
            NAMES[each.name],
            "--owner",
            "Ann",
            "--state",
            "contacted",
        )
        assert f"\ntitle\t{NAMES[each.name]}\n" in printed
        assert "\noutcomes\tpassed-through (6)\n" in printed


async def verify(rehearsal: Rehearsal, bridge: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 3: what v1 has answered is held against a bridge that no client knows of yet."""
    operator, recorded = rehearsal.operator, rehearsal.folder / "v1.har"
    await operator.runs("capture", "--all", "all", "--for", "30m")
    await heard(bridge, "capture_on", 1)
    await work(bridge, *READS)
    while (har := await operator.runs("export", "--har")).count('"startedDateTime"') < 3 * len(
        HERE
    ):
        pass
    recorded.write_text(har)
    caller = HERE[-1]
    monkeypatch.setenv("CALLER", f"{caller.login}:{caller.password}")
    async with rehearsal.bridge(name="tried") as tried:
        printed = await operator.runs(
            "verify", str(recorded), "--against", tried.url, "--credential", "env:CALLER", "--pace", "1000",
        )  # fmt: skip
    assert printed.splitlines()[-1] == "6 of 6 equal"


async def shadow(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 4: both sides are asked, v1 answers, and what differs is told."""
    operator = rehearsal.operator
    planted = {"fault": "other-value", "element": "body", "path": ".*/409", "token": "shop-token"}
    await rehearsal.control("POST", "faults", planted)
    done = await work(bridge, *READS)

    assert statuses(done) == of_all([200] * len(READS))
    while True:
        rows = table(await operator.runs("shadow"))
        if len(rows) == len(HERE) and all(" of 3 equal" in row["v1 and bridge"] for row in rows):
            break
    scores = {row["integration"]: row["v1 and bridge"] for row in rows}
    equal = {NAMES[each.name]: "3 of 3 equal" for each in HERE}
    if NAMES[SHOP] in equal:
        equal[NAMES[SHOP]] = "2 of 3 equal"
    assert scores == equal
    await rehearsal.control("DELETE", "faults")
    await operator.runs("shadow", "--all", "--percent", "0")


async def switch(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 5: one after the other is answered by the bridge, and what it does not translate by v1."""
    operator = rehearsal.operator
    before = len(bridge.lines("policy_changed"))
    for each in HERE:
        await operator.runs("switch", NAMES[each.name], "--to", "bridge")
    await heard(bridge, "policy_changed", before + len(HERE))
    await rehearsal.control("DELETE", "calls")
    done = await work(bridge, *ALL)

    worked = [*[200] * len(READS), *[201] * len(WRITES), *[200] * len(UNTRANSLATED)]
    assert statuses(done) == of_all(worked)
    assert {did[1] for did in done.values()} == {("show", 200, HELLO)}
    assert await rehearsal.came_to_v1() == [("GET", "/clients")] * len(HERE)


async def brown_out(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 6: calls are turned away for a while, of one first, and that is ended at once."""
    operator, shop = rehearsal.operator, HERE[-1].name
    await operator.runs("brownout", NAMES[shop], "--for", "30m")
    await heard(bridge, "brownout_on", 1)
    done = statuses(await work(bridge, *READS))
    assert done == {**of_all([200] * 3), shop: [503] * 3}
    await operator.runs("brownout", "--all", "--end")
    await operator.runs("brownout", NAMES[shop], "--end")
    await heard(bridge, "brownout_ended", 1)
    assert statuses(await work(bridge, *READS)) == of_all([200] * 3)


async def switch_off(rehearsal: Rehearsal, bridge: Server) -> None:
    """In the end: nobody is answered any more."""
    before = len(bridge.lines("policy_changed"))
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    await heard(bridge, "policy_changed", before + 1)
    await rehearsal.control("DELETE", "calls")
    assert statuses(await work(bridge, *ALL)) == of_all([410] * len(ALL))
    assert await rehearsal.came_to_v1() == []


async def test_the_six_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("sandbox", "--port=0", "--v1-port=0")
    async with serving(*arguments, ready=lambda it: "Its v1 is at" in it.said) as sandbox:
        rehearsal = Rehearsal(tmp_path, sandbox)
        for each in HERE:
            await enter(rehearsal, each)
        async with rehearsal.bridge("--mode=observe") as bridge:
            await observe(rehearsal, bridge)
            await name(rehearsal)
            await verify(rehearsal, bridge, monkeypatch)
        await rehearsal.operator.runs("switch", "--all", "--to", "v1")
        await rehearsal.operator.runs("shadow", "--all", "--percent", "100")
        async with rehearsal.bridge() as bridge:
            await shadow(rehearsal, bridge)
            await switch(rehearsal, bridge)
            await brown_out(rehearsal, bridge)
            await switch_off(rehearsal, bridge)


async def enter(rehearsal: Rehearsal, each: Integration) -> None:
    """Put an integration's v1 login into the book, with the v2 token that is to answer for it."""
    token = write_token(rehearsal.folder, each.token, each.token)
    flags = {
        "subdomain": "acme",
        "login": each.login,
        "account-id": 1000,
        "token": token,
        "label": each.name,
        "book": rehearsal.book,
    }
    given = [f"--{name}={value}" for name, value in flags.items()]
    await rehearsal.operator.runs("credentials", "add", *given, given=f"{each.password}\n")
