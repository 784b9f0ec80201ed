"""From v1 to v2 in six steps, by the commands that an operator gives, with four kinds of clients.

The clients are programs of their own and know v1 only. Between the steps nothing of them is changed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
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

WORKED = [*[200] * len(READS), *[201] * len(WRITES), *[200] * len(UNTRANSLATED)]
"""The statuses of `ALL` where nothing is turned away."""

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


async def created(sandbox: str) -> int:
    """Return how many mails and payments a side of the sandbox was asked for, and has made."""
    async with aiohttp.request("GET", f"{sandbox}/sandbox/calls") as answer:
        return int((await answer.json())["applied"]["created"])


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


def named(what: str) -> dict[str, str]:
    """Say the same of every client, by the operator's names."""
    return {NAMES[each.name]: what for each in HERE}


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


async def decided(bridge: Server, event: str, *decisions: Awaitable[str]) -> list[str]:
    """Have the operator decide, and wait until the bridge says that it goes by each of them."""
    before = len(bridge.lines(event))
    printed = [await each for each in decisions]
    await bridge.until(lambda: len(bridge.lines(event)) >= before + len(decisions))
    return printed


async def observe(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 1: everything is passed through, and who calls what is recorded."""
    done = await work(bridge, *ALL)

    assert statuses(done) == of_all(WORKED)
    assert {did[1] for did in done.values()} == {("show", 200, HELLO)}
    assert await created(rehearsal.v1) == len(WRITES) * len(HERE)
    rows = await listed(rehearsal.operator, len(ALL) * len(HERE))
    assert {row["integration"]: (row["agent"], row["calls"], row["errors"]) for row in rows} == {
        each.name: (each.agent, "6", "0") for each in HERE
    }


async def name(rehearsal: Rehearsal) -> None:
    """Step 2: each integration gets a name and an owner."""
    for each in HERE:
        said = ("--name", NAMES[each.name], "--owner", "Ann", "--state", "contacted")
        printed = await rehearsal.operator.runs("integrations", each.name, *said)
        assert f"\ntitle\t{NAMES[each.name]}\n" in printed
        assert "\noutcomes\tpassed-through (6)\n" in printed


async def verify(rehearsal: Rehearsal, bridge: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 3: what v1 has answered is held against a bridge that no client knows of yet."""
    operator, recorded = rehearsal.operator, rehearsal.folder / "v1.har"
    await decided(bridge, "capture_on", operator.runs("capture", "--all", "all", "--for", "30m"))
    await work(bridge, *READS)
    reads = len(READS) * len(HERE)
    while (har := await operator.runs("export", "--har")).count('"startedDateTime"') < reads:
        pass
    recorded.write_text(har)
    caller = HERE[0]
    monkeypatch.setenv("CALLER", f"{caller.login}:{caller.password}")
    asked = ("--credential", "env:CALLER", "--pace", "1000")
    async with rehearsal.bridge(name="tried") as tried:
        printed = await operator.runs("verify", str(recorded), "--against", tried.url, *asked)
    # Two clients call in the paths of 2008 and two in those of 2015, each the same.
    assert printed.splitlines()[-1] == "6 of 6 equal"


async def shadow(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 4: both sides are asked, v1 answers, and what differs is told."""
    operator, odd = rehearsal.operator, HERE[0]
    planted = {"fault": "other-value", "element": "body", "path": ".*/409", "token": odd.token}
    await rehearsal.control("POST", "faults", planted)
    done = await work(bridge, *READS)

    assert statuses(done) == of_all([200] * len(READS))
    rows: list[dict[str, str]] = []
    while sum("of 3 equal" in row["v1 and bridge"] for row in rows) < len(HERE):
        rows = table(await operator.runs("shadow"))
    scores = named("3 of 3 equal") | {NAMES[odd.name]: "2 of 3 equal; 1 differ at …/body"}
    assert {row["integration"]: row["v1 and bridge"] for row in rows} == scores
    (place,) = table(await operator.runs("shadow", NAMES[odd.name]))
    assert (place["differs at"], place["calls"]) == ("/invoice-message/body", "1")
    await rehearsal.control("DELETE", "faults")
    await decided(bridge, "policy_changed", operator.runs("shadow", "--all", "--percent", "0"))


async def switch(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 5: one after the other is answered by the bridge, and by v1 what is not translated."""
    operator = rehearsal.operator
    to_bridge = [operator.runs("switch", NAMES[each.name], "--to", "bridge") for each in HERE]
    *_, printed = await decided(bridge, "policy_changed", *to_bridge)
    await rehearsal.control("DELETE", "calls")
    done = await work(bridge, *ALL)

    assert {row["integration"]: row["answered by"] for row in table(printed)} == named("bridge")
    assert statuses(done) == of_all(WORKED)
    assert {did[1] for did in done.values()} == {("show", 200, HELLO)}
    assert await rehearsal.came_to_v1() == [("GET", "/clients")] * len(HERE)
    assert await created(rehearsal.sandbox.url) == len(WRITES) * len(HERE)


async def brown_out(rehearsal: Rehearsal, bridge: Server) -> None:
    """Step 6: one integration's calls are turned away for a while, and that is ended at once."""
    operator, hit = rehearsal.operator, HERE[-1]
    off = max(1, (datetime.now(UTC).hour + 12) % 24)
    nearly_always = f"Mon-Sun 0:00-{off}:00,{off}:10-24:00"
    await listed(operator, 18 * len(HERE))
    foreseen = await operator.runs("brownout", "--dry-run", "--at", nearly_always)
    assert f"{18 * len(HERE)} calls of {len(HERE)} integrations would have been" in foreseen
    assert {row["integration"]: row["writes"] for row in table(foreseen)} == named("4")

    begins = operator.runs("brownout", NAMES[hit.name], "--for", "30m")
    (printed,) = await decided(bridge, "brownout_on", begins)
    assert [(row["is"], row["schedule"], row["by"]) for row in table(printed)] == [
        ("on", "once", "command")
    ]
    assert statuses(await work(bridge, *READS)) == {**of_all([200] * 3), hit.name: [503] * 3}
    await decided(bridge, "brownout_ended", operator.runs("brownout", NAMES[hit.name], "--end"))
    assert statuses(await work(bridge, *READS)) == of_all([200] * 3)


async def switch_off(rehearsal: Rehearsal, bridge: Server) -> None:
    """In the end: nobody is answered any more, by either side, and all are still told apart."""
    operator = rehearsal.operator
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    (printed,) = await decided(bridge, "policy_changed", operator.runs("sunset", "--all", today))
    assert [(row["id"], row["calls"]) for row in table(printed)] == [("all", "410")]
    await rehearsal.control("DELETE", "calls")
    assert statuses(await work(bridge, *ALL)) == of_all([410] * len(ALL))
    assert await rehearsal.came_to_v1() == []
    assert await created(rehearsal.sandbox.url) == len(WRITES) * len(HERE)
    rows = await listed(operator, 30 * len(HERE))
    errors = named("6") | {NAMES[HERE[-1].name]: "9"}
    assert {row["integration"]: row["errors"] for row in rows} == errors
    assert {row["credential"] for row in rows} == {"accepted"}
    of_one = await operator.runs("integrations", NAMES[HERE[0].name])
    assert "\noutcomes\tpassed-through (13), served (11), withdrawn (6)\n" in of_one


@pytest.mark.timeout(300)  # programs start thirty times
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
