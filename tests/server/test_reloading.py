"""What SIGHUP changes of a running bridge: the settings that can change, all of them or none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import aiohttp
import pytest

from bridge.record.log.writer import LogWriter
from bridge.server.service import Service, running
from bridge.settings import RELOADED, Settings, load
from tests.support.held_upstream import HeldUpstream, running_held_upstream
from tests.support.legacy import Answer, LegacyClient
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, empty_log
from tests.support.upstream import message, page

LIST = "/invoice/1420/messages"


class Bridge(NamedTuple):
    """A bridge, and what is around it."""

    service: Service
    client: LegacyClient
    v2: HeldUpstream
    log: Logged
    config: Path

    async def get(self, path: str = LIST, **headers: str) -> Answer:
        """Call, and have v2 answer with one message."""
        calling = asyncio.create_task(self.client.get(path, headers=headers))
        (await self.v2.next()).answer(page(message()))
        return await calling

    def last_call(self) -> dict[str, Any]:
        """The last line about a call."""
        return self.log.lines("legacy_call")[-1]


@pytest.fixture
def log() -> Any:
    with logging() as stream:
        yield stream


@pytest.fixture
async def bridge(log: Logged, tmp_path: Path) -> AsyncIterator[Bridge]:
    async with running_held_upstream() as v2, serving(v2, log, tmp_path) as made:
        yield made


@asynccontextmanager
async def serving(v2: HeldUpstream, log: Logged, folder: Path) -> AsyncIterator[Bridge]:
    config = folder / "bridge.toml"
    config.write_text("")
    flags = {
        "contact": "tests@example.com",
        "auth": "token-as-password",
        "account_id": "1000",
        "upstream": v2.base_url,
        "port": "0",
        "admin_port": "0",
        "journal": str(folder / "journal.sqlite"),
        "database": empty_log(folder),
    }
    read = partial(load, Settings, flags, config)
    async with (
        running(read(), read_again=read) as service,
        LegacyClient(LOOPBACK, service.port) as client,
    ):
        yield Bridge(service, client, v2, log, config)


# What shows that a setting is in force.


async def longest_body(bridge: Bridge) -> object:
    answer = await bridge.client.call(
        "POST", LIST, body=b"<invoice-mess", headers={"Content-Type": "text/xml"}
    )
    return answer.status


async def time_of_a_call(bridge: Bridge) -> object:
    calling = asyncio.create_task(bridge.client.get(LIST))
    held = await bridge.v2.next()
    done, _ = await asyncio.wait([calling, asyncio.create_task(held.until_left())], timeout=0.2)
    if not done:
        held.answer(page())
    return (await calling).status


async def calls_at_once(bridge: Bridge) -> object:
    await bridge.get()
    first = asyncio.create_task(bridge.client.get(LIST))
    held = await bridge.v2.next()
    second = asyncio.create_task(bridge.client.get("/invoice/1421/messages"))
    arriving = asyncio.create_task(bridge.v2.next())
    await asyncio.wait([second, arriving], return_when=asyncio.FIRST_COMPLETED)
    held.answer(page())
    if arriving.done():
        arriving.result().answer(page())
    arriving.cancel()
    await first
    return (await second).status


async def root_element(bridge: Bridge) -> object:
    return (await bridge.get(f"{LIST}/27835209")).xml[0].tag


async def subdomain_of_a_name(bridge: Bridge) -> object:
    await bridge.get(Host="acme.bridge.internal")
    return bridge.last_call().get("subdomain")


async def subdomain_of_none(bridge: Bridge) -> object:
    await bridge.get()
    return bridge.last_call().get("subdomain")


async def lines_about_calls(bridge: Bridge) -> object:
    before = len(bridge.log.lines("legacy_call"))
    await bridge.get()
    return len(bridge.log.lines("legacy_call")) - before


async def sunset_header(bridge: Bridge) -> object:
    return (await bridge.get()).headers.get("Sunset")


async def wait_for_v2(bridge: Bridge) -> object:
    calling = asyncio.create_task(bridge.client.get(LIST))
    is_first = True
    while not calling.done():
        arriving = asyncio.create_task(bridge.v2.next())
        await asyncio.wait([calling, arriving], return_when=asyncio.FIRST_COMPLETED)
        if not arriving.done():
            arriving.cancel()
        elif is_first:
            arriving.result().answer(status=429, headers={"Retry-After": "1"})
        else:
            arriving.result().answer(page())
        is_first = False
    return (await calling).status


async def address_of_a_caller(bridge: Bridge) -> object:
    await bridge.get(**{"X-Forwarded-For": "203.0.113.7"})
    return bridge.last_call()["address"]


async def planned_brownout(bridge: Bridge) -> object:
    url = f"http://{LOOPBACK}:{bridge.service.admin_port}/brownouts.json"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        planned = (await response.json())["planned"]
    found = [each["planned"]["brownout"] for each in planned]
    return [(each["schedule"], each["time_zone"]) for each in found]


async def words_of_a_brownout(bridge: Bridge) -> object:
    answer = await bridge.client.get("/account/rate_limit_status")  # for which v2 is not asked
    return answer.errors[0].partition("done. ")[2] if answer.status == 503 else None


LATER = "2099-01-01 10:00-11:00"
HERE = "UTC" if datetime.now(UTC).hour < 23 else "Etc/GMT+6"
"""Where it is not about to be midnight."""

Look = Callable[[Bridge], Awaitable[object]]

EFFECTS: dict[str, tuple[str, Look, object, object]] = {
    # a new value as TOML, what shows it, and what is seen before and after
    "body_limit": ("10", longest_body, 400, 413),
    "brownout": (f'"{LATER}"', planned_brownout, [], [(LATER, "UTC")]),
    "brownout_message": (
        f'"Ask Jane."\nbrownout = "daily 00:00-23:59"\nbrownout_time_zone = "{HERE}"',
        words_of_a_brownout, None, "Ask Jane.",
    ),
    "brownout_time_zone": (
        f'"Europe/Berlin"\nbrownout = "{LATER}"', planned_brownout, [], [(LATER, "Europe/Berlin")],
    ),
    "call_timeout": ("0.05", time_of_a_call, 200, 504),
    "calls_per_account": ("1", calls_at_once, 200, 503),
    "dialect": ('"final"', root_element, "body", "id"),
    "domains": ('"bridge.internal"', subdomain_of_a_name, None, "acme"),
    "log_level": ('"error"', lines_about_calls, 1, 0),
    "subdomain": ('"acme"', subdomain_of_none, None, "acme"),
    "sunset": ("2027-06-30", sunset_header, None, "Wed, 30 Jun 2027 00:00:00 GMT"),
    "throttle_wait": ("9", wait_for_v2, 503, 200),
    "trusted_proxies": (f'"{LOOPBACK}"', address_of_a_caller, LOOPBACK, "203.0.113.7"),
}  # fmt: skip

KEPT = {"calls_kept_bytes", "calls_kept_days"}


def test_each_that_is_taken_is_tried_here() -> None:
    # What shadow ignores is tried beside it, as that takes a v1.
    assert {*EFFECTS, *KEPT, "stop_timeout", "shadow_ignored"} == RELOADED


@pytest.mark.parametrize("setting", EFFECTS)
async def test_a_new_value_is_in_force_after_a_reload(bridge: Bridge, setting: str) -> None:
    value, look, before, after = EFFECTS[setting]

    assert await look(bridge) == before
    bridge.config.write_text(f"{setting} = {value}\n")
    assert await look(bridge) == before
    await bridge.service.reload()

    assert await look(bridge) == after
    bridge.config.write_text("")
    await bridge.service.reload()
    assert await look(bridge) == before


async def test_a_new_time_to_stop_is_that_of_the_stop(log: Logged, tmp_path: Path) -> None:
    async with running_held_upstream() as v2, serving(v2, log, tmp_path) as bridge:
        bridge.config.write_text("stop_timeout = 7\n")
        await bridge.service.reload()

    assert [line["seconds"] for line in log.lines("stopping")] == [7.0]


async def test_what_the_log_keeps_is_told_to_its_writer(bridge: Bridge) -> None:
    bridge.config.write_text("calls_kept_days = 3\ncalls_kept_bytes = 5\n")

    with patch.object(LogWriter, "keep_calls", autospec=True) as kept:
        await bridge.service.reload()

    assert kept.call_args.kwargs == {"days": 3, "size": 5}


class TestWhatIsTold:
    async def test_what_has_changed_from_what_to_what(self, bridge: Bridge) -> None:
        bridge.config.write_text("sunset = 2027-06-30\nthrottle_wait = 9\n")
        await bridge.service.reload()
        await bridge.service.reload()

        first, second = bridge.log.lines("reloaded")
        assert first["changed"] == {
            "sunset": {"from": None, "to": "2027-06-30"},
            "throttle_wait": {"from": 0.0, "to": 9.0},
        }
        assert (first["settings"], second["settings"]) == ("changed", "unchanged")
        assert "changed" not in second

    async def test_what_takes_a_restart_by_its_name_alone(self, bridge: Bridge) -> None:
        bridge.config.write_text(
            'repeat_window = 5\nadmin_bearer_token = "env:HOME"\nsubdomain = "a"\n'
        )
        await bridge.service.reload()

        (line,) = bridge.log.lines("reloaded")
        assert line["needs_restart"] == ["repeat_window", "admin_bearer_token"]
        assert [*line["changed"]] == ["subdomain"]
        told = await readiness(bridge)
        assert told["settings"] == (
            "changed in the file, needs a restart: repeat_window, admin_bearer_token"
        )

    @pytest.mark.parametrize(
        ("broken", "cause"),
        [
            ('sunset = 2027-06-30\ncall_timeout = "soon"\n', "call_timeout: must be a number"),
            ("sunset = 2027-06-30\nprot = 1\n", "prot: there is no such setting"),
            ("sunset = 2027-06-30\n=\n", "bridge.toml: "),
        ],
        ids=["a-value", "a-name", "no-toml"],
    )
    async def test_a_broken_file_leaves_all_as_it_was(
        self, bridge: Bridge, broken: str, cause: str
    ) -> None:
        bridge.config.write_text(broken)
        await bridge.service.reload()

        (line,) = bridge.log.lines("settings_broken")
        assert cause in line["reason"]
        assert [each["settings"] for each in bridge.log.lines("reloaded")] == ["broken"]
        assert await sunset_header(bridge) is None
        assert (await readiness(bridge))["settings"].endswith("; the ones before are in force")

    async def test_a_file_that_is_good_again_warns_of_nothing(self, bridge: Bridge) -> None:
        bridge.config.write_text("=")
        await bridge.service.reload()
        bridge.config.write_text("")
        await bridge.service.reload()

        assert await readiness(bridge) == {}


async def readiness(bridge: Bridge) -> dict[str, str]:
    """What the bridge warns of."""
    url = f"http://{LOOPBACK}:{bridge.service.admin_port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        told: dict[str, str] = (await response.json())["warnings"]
        return told
