"""v2 from here: whether it can be reached, what time it has, and what it says to each token."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain

import msgspec
from aiohttp import ClientSession

from bridge.checking.findings import Finding, ok, warning, wrong
from bridge.identity.book import BookError, Row, read_token
from bridge.secret import Secret
from bridge.server.admin.health import OK, PROBE, Readiness, upstream_check
from bridge.settings import UpstreamSettings, where
from bridge.v2.client import Upstream, V2Client
from bridge.v2.errors import UpstreamError
from bridge.v2.retry_after import read_http_date
from bridge.v2.wire import V2Request

TRIAL = V2Request("GET", "/invoices", "per_page=1")
"""The call that tries a token: v2's list of invoices, cut to one.

It asks for the permission that legacy calls ask for, and needs no id. A v2 without such a list, as
the sandbox, says 404 once it has judged the token.
"""

WHO = V2Request("GET", PROBE)
"""The call that v2 allows to everybody who is somebody in an account."""

AT_ONCE = 4
"""Tokens that are tried at once."""

PACE = 0.3
"""Seconds before each call with one token: v2 takes 100 of them in 15 seconds, and half of those
are for a bridge, which may be serving."""

PATIENCE = 15.0
"""Seconds for one call."""

MOST_SKEW = 5.0
"""Seconds that a clock that is kept right does not differ from v2's, the way of an answer in."""

NOT_V2 = "no answer of v2's"
RESULTS: Mapping[int, str] = {
    401: "refused (401)",
    403: "no permission for invoices (403)",
    429: "throttled (429), try later",
}
"""What a status says of a token; 200 and 404 depend on the body."""


async def reach(upstream: Upstream) -> tuple[str, str | None]:
    """Return what is wrong with v2, or `OK`, and the `Date` of its answer; no token is sent."""
    dates: list[str | None] = []
    async with ClientSession(headers={"User-Agent": upstream.user_agent}) as session:
        check = upstream_check(upstream.base_url, session, dates.append)
        said = (await Readiness({"upstream": check}, timeout=PATIENCE).results())["upstream"]
    return said, next(iter(dates), None)


async def permission(client: V2Client, account_id: int, token: Secret) -> str:
    """Return whether a token may do what legacy calls need: `OK`, or what v2 says to it."""
    try:
        response = await client.send(TRIAL, account_id=account_id, token=token, seconds=PATIENCE)
    except UpstreamError as error:
        return f"unreachable: {error}"
    if response.status not in {200, 404}:
        return RESULTS.get(response.status, f"failed ({response.status})")
    try:
        members = msgspec.json.decode(response.body, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return NOT_V2
    return OK if response.status == 404 or "invoices" in members else NOT_V2


async def try_all(rows: Sequence[Row], upstream: Upstream) -> list[str]:
    """Return what came of each row's token; one that several share is tried once an account.

    None is sent to what is no v2.
    """
    said, _ = await reach(upstream)
    client = V2Client(upstream)
    turns = asyncio.Semaphore(AT_ONCE)

    async def try_one(row: Row) -> str:
        try:
            token = read_token(row.reference, os.environ)
        except BookError as error:
            return str(error)
        if said != OK:
            return said
        async with turns:
            return await permission(client, row.account_id, token)

    trials = {(row.account_id, row.reference): row for row in rows}
    try:
        outcomes = await asyncio.gather(*map(try_one, trials.values()))
    finally:
        await client.close()
    results = dict(zip(trials, outcomes, strict=True))
    return [results[row.account_id, row.reference] for row in rows]


async def check_upstream(settings: UpstreamSettings, rows: Collection[Row]) -> Sequence[Finding]:
    """Reach v2, compare the clocks, and try each token of the book with each of its accounts."""
    upstream = settings.upstream_client()
    said, date = await reach(upstream)
    if said != OK:
        mend = f"see to the network, a proxy, or the URL {where('upstream')}"
        return [wrong("v2", said, mend)]
    found = [ok("v2", f"{upstream.base_url}: answers as v2 does"), check_clock(date)]
    return [*found, *await _check_tokens(upstream, rows)]


def check_clock(date: str | None, now: datetime | None = None) -> Finding:
    """Compare this machine's clock with the `Date` of an answer of v2's."""
    v2 = None if date is None else read_http_date(date)
    if v2 is None:
        return warning("clock", "v2 did not say what time it is", "try again later")
    differs = abs((now or datetime.now(UTC)) - v2).total_seconds()
    told = f"seconds between this clock and v2's: {differs:.0f}"
    if differs > MOST_SKEW:
        return warning("clock", told, "have it kept right, by NTP: timedatectl set-ntp true")
    return ok("clock", told)


async def _check_tokens(upstream: Upstream, rows: Iterable[Row]) -> Sequence[Finding]:
    accounts: defaultdict[str, dict[int, None]] = defaultdict(dict)
    for row in rows:
        accounts[row.reference].setdefault(row.account_id)
    if not accounts:
        return [ok("tokens", "none of the bridge's own: each client brings its own")]
    client, turns = V2Client(upstream), asyncio.Semaphore(AT_ONCE)

    async def try_one(reference: str) -> list[Finding]:
        try:
            token = read_token(reference, os.environ)
        except BookError:
            return []  # told of the book
        async with turns:
            # One after the other: v2's limit is the token's.
            return [
                await _check_token(client, reference, account_id, token)
                for account_id in accounts[reference]
            ]

    try:
        return [*chain.from_iterable(await asyncio.gather(*map(try_one, accounts)))]
    finally:
        await client.close()


MAKE_ANOTHER = (
    "make a personal access token at https://id.getharvest.com/developers, which also shows the "
    "numbers of its accounts"
)
PERMIT = "have its user made an administrator, or a manager who may create and edit invoices"
TRY_LATER = "try again in a minute"

_ENTRY: Mapping[int, tuple[str, str]] = {
    401: ("v2 refuses it (401): it is wrong, revoked, or not of this account", MAKE_ANOTHER),
    403: ("its user has no access to this account (403)", "put account_id right, or invite it"),
    404: ("v2 knows no such account for it (404)", "put account_id right"),
}  # fmt: skip
"""What v2's answer to who a token is says of it, and what to do."""

_PERMISSION: Mapping[str, str] = {RESULTS[401]: MAKE_ANOTHER, RESULTS[403]: PERMIT}


async def _check_token(client: V2Client, reference: str, account_id: int, token: Secret) -> Finding:
    name, what = "tokens", f"{reference}, account {account_id}"
    await asyncio.sleep(PACE)
    try:
        entry = await client.send(WHO, account_id=account_id, token=token, seconds=PATIENCE)
    except UpstreamError as error:
        return warning(name, f"{what}: {error}", TRY_LATER)
    if entry.status in _ENTRY:
        told, mend = _ENTRY[entry.status]
        return wrong(name, f"{what}: {told}", mend)
    if entry.status != 200:
        return warning(name, f"{what}: v2 answers {entry.status}", TRY_LATER)
    await asyncio.sleep(PACE)
    said = await permission(client, account_id, token)
    if said == OK:
        return ok(name, f"{what}: v2 takes it, invoices too")
    if said in _PERMISSION:
        return wrong(name, f"{what}: {said}", _PERMISSION[said])
    return warning(name, f"{what}: {said}", TRY_LATER)
