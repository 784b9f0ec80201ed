"""The command `harvest-bridge journal`: showing the writes that are not settled, and settling them.

What is in the journal is in `bridge.record`; how a look tells, in `bridge.resources`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

import typer

from bridge.identity import book
from bridge.identity.book import BookError, WrongField
from bridge.record.inspection import Inspection, inspecting
from bridge.record.store import Entry, JournalError, TakenUp
from bridge.resources import RESOURCES
from bridge.resources.flow import Settle, Step, find, run
from bridge.secret import Secret
from bridge.settings import (
    PREFIX,
    Settings,
    UpstreamSettings,
    WrongSetting,
    load_upstream,
    read_file,
)
from bridge.terminal import fail, print_table
from bridge.v2.client import V2Client
from bridge.v2.errors import UpstreamError
from bridge.v2.retry_after import THROTTLE_WINDOW
from bridge.v2.wire import V2Request, V2Response
from bridge.v2.writes import Outcome

AT_ONCE = 5
"""Looks."""

PATIENCE = 40.0
"""Seconds for one look, without the time that v2 asks to wait."""

PACE = 0.3
"""Seconds from one call to the next: v2 takes 100 in 15 seconds, and half of them are the bridge's,
which may be running."""

LONGEST_WAIT = 60.0
"""Seconds: a look is given up when v2 asks to wait for longer."""

TRIES = 4
"""Times that one call is made, if v2 asks to wait each time."""


def journal(  # noqa: PLR0913, PLR0917 - one parameter a flag
    file: Annotated[
        Path | None,
        typer.Option("--journal", help="The journal, an SQLite file.", envvar=f"{PREFIX}JOURNAL"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The bridge's TOML file with settings.", envvar=f"{PREFIX}CONFIG"),
    ] = None,
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Settle them, by looking at what v2 has.")
    ] = False,
    book_file: Annotated[
        Path | None,
        typer.Option(
            "--book",
            help="The credential book: to look, an account's first token is used.",
            envvar=f"{PREFIX}BOOK",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Where the v2 token for accounts is that the book does not know: env:NAME or "
            "file:/absolute/path."
        ),
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(help=f"The base URL of v2. [{PREFIX}UPSTREAM]")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help=f"Whom Harvest may ask about this. [{PREFIX}CONTACT]")
    ] = None,
) -> None:
    """List the writes to v2 whose outcome is not known, and settle them.

    A write is listed as open while it is being made, or when it was interrupted, and as unknown
    when its answer was lost and looking for what it made has failed.

    With --reconcile each is looked for, but those that a running bridge is making. The exit status
    is then 1 if any is still unknown.
    """
    if not reconcile and (token is not None or upstream is not None or contact is not None):
        fail("--token, --upstream and --contact go with --reconcile")
    try:
        given = read_file(config)
        path = file or _path(given, "journal") or Settings.model_fields["journal"].default
        if not reconcile:
            with inspecting(path, _utc_now) as inspection:
                _show(inspection)
            return
        v2 = load_upstream({"contact": contact, "upstream": upstream}, config)
        tokens = _Tokens.read(book_file or _path(given, "book"), token)
        with inspecting(path, _utc_now, take=True) as inspection:
            settled = asyncio.run(_reconcile(inspection, v2, tokens))
    except (WrongSetting, BookError, JournalError) as error:
        fail(str(error))
    if not settled:
        raise typer.Exit(1)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _path(given: Mapping[str, object], name: str) -> Path | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise WrongSetting(f"{name}: must be a path")
    return Path(value)


NOTHING = "Nothing is open or unknown."


def _show(inspection: Inspection) -> None:
    entries = inspection.unsettled()
    if not entries:
        typer.echo(NOTHING)
        return
    print_table(
        ("id", "since", "account", "path", "outcome", "request"),
        (
            (*_facts(entry), _outcome(entry, in_use=inspection.in_use), entry.request_id)
            for entry in entries
        ),
    )


def _facts(entry: Entry) -> tuple[str, str, str, str]:
    intent = entry.intent
    since = intent.intended_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(intent.id), since, str(intent.account_id), intent.path


def _outcome(entry: Entry, *, in_use: bool) -> str:
    if entry.intent.outcome is Outcome.OPEN:
        return "open (in flight)" if in_use else "open (interrupted)"
    return str(entry.intent.outcome)


# Reconciling.


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The v2 tokens to look with."""

    by_account: Mapping[int, Secret]
    other: Secret | None
    """For accounts that have none of their own."""

    @classmethod
    def read(cls, book_file: Path | None, reference: str | None) -> Self:
        """Take them from the credential book, if there is one, else from `reference`, if given.

        Raises:
            BookError: the book, or a token, cannot be used.
        """
        by_account: dict[int, Secret] = {}
        if book_file is not None:
            for entry in book.load(book_file, os.environ).entries:
                by_account.setdefault(entry.account_id, entry.token)
        return cls(by_account, None if reference is None else _token(reference))

    def of(self, account_id: int) -> Secret:
        """Return the account's token.

        Raises:
            StillUnknown: there is none.
        """
        token = self.by_account.get(account_id, self.other)
        if token is None:
            raise StillUnknown(f"there is no token for account {account_id}: --book or --token")
        return token


def _token(reference: str) -> Secret:
    try:
        return book.read_token(reference, os.environ)
    except (WrongField, BookError) as error:
        message = error.message if isinstance(error, WrongField) else str(error)
        raise BookError(f"--token: {message}") from None


class StillUnknown(Exception):
    """An intent could not be settled; `str()` says why."""


async def _reconcile(inspection: Inspection, v2: UpstreamSettings, tokens: _Tokens) -> bool:
    """Look for what each unsettled intent made, tell what comes out; return whether all did."""
    entries = inspection.unsettled()
    if not entries:
        typer.echo(NOTHING)
        return True
    turns = asyncio.Semaphore(AT_ONCE)
    client = V2Client(v2.upstream_client())
    calls = _Calls(client)
    settled = True

    async def settle(entry: Entry) -> None:
        nonlocal settled
        async with turns:
            try:
                result = await _settle(entry, inspection, calls, tokens)
            except StillUnknown as error:
                result = f"still unknown: {error}"
                settled = False
            typer.echo("\t".join((*_facts(entry), result)))

    try:
        async with asyncio.TaskGroup() as tasks:
            for entry in entries:
                tasks.create_task(settle(entry))
    finally:
        await client.close()
    return settled


async def _settle(entry: Entry, inspection: Inspection, calls: "_Calls", tokens: _Tokens) -> str:
    """Look for what an intent made, and return what is to be told of it.

    Raises:
        StillUnknown: it could not be found out.
    """
    intent = entry.intent
    if intent.outcome is Outcome.OPEN:
        return "in flight: the bridge is making it"
    looks = {resource.name: resource.look for resource in RESOURCES}
    if intent.resource not in looks:
        raise StillUnknown(f"this bridge has no resource {intent.resource}")
    token = tokens.of(intent.account_id)
    try:
        async with asyncio.timeout(PATIENCE) as patience:

            async def carry_out(step: Step) -> V2Response | bool:
                if isinstance(step, V2Request):
                    return await calls.make(step, intent.account_id, token, patience)
                assert isinstance(step, Settle)  # noqa: S101 - a look begins no write
                return inspection.settle(entry, step.outcome, step.made_id, found=step.found)

            made = await run(find(intent, looks[intent.resource]), carry_out)
    except TakenUp:
        return "taken up by its client"
    except TimeoutError:
        raise StillUnknown(f"v2 took longer than {PATIENCE:.0f} seconds") from None
    except (UpstreamError, JournalError) as error:
        raise StillUnknown(str(error)) from None
    return f"done, message {made.id}" if made else "not there: its client may send it again"


class _Calls:
    """v2 calls at a pace that v2 bears, and that leaves a running bridge its share."""

    def __init__(
        self, client: V2Client, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._client = client
        self._sleep = sleep
        self._next = 0.0
        """When the next call may be made, by the event loop's clock."""

    async def make(
        self, request: V2Request, account_id: int, token: Secret, patience: asyncio.Timeout
    ) -> V2Response:
        """Make a call when its turn has come, again if v2 asks to wait; that extends `patience`.

        Raises:
            UpstreamError: there is no answer.
        """
        for _ in range(TRIES):
            await self._turn(patience)
            response = await self._client.send(
                request, account_id=account_id, token=token, seconds=PATIENCE
            )
            wait = THROTTLE_WINDOW if response.retry_after is None else response.retry_after
            if response.status != 429 or wait > LONGEST_WAIT:
                break
            self._next = max(self._next, asyncio.get_running_loop().time() + wait)
        return response

    async def _turn(self, patience: asyncio.Timeout) -> None:
        now = asyncio.get_running_loop().time()
        mine = max(now, self._next)
        self._next = mine + PACE
        until = patience.when()
        if until is not None:
            patience.reschedule(until + mine - now)
        await self._sleep(mine - now)
