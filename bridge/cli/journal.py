"""`harvest-bridge journal`: showing the writes that are not settled, and settling them.

What is in the journal is in `bridge.record`; how a look tells, in `bridge.resources`.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.terminal import Given, fail, failing_at, print_table, with_settings
from bridge.identity import book
from bridge.record.journal import moving
from bridge.record.journal.inspection import Inspection, inspecting
from bridge.record.journal.rules import Entry, JournalError, TakenUp
from bridge.resources import RESOURCES
from bridge.resources.flow import Settle, Step, find, run
from bridge.secret import Secret
from bridge.settings import FileSettings, UpstreamSettings
from bridge.v2.client import V2Client
from bridge.v2.errors import UpstreamError
from bridge.v2.retry_after import wait_after_429
from bridge.v2.wire import V2Request, V2Response
from bridge.v2.writes import Outcome

app = typer.Typer(rich_markup_mode=None)

PATIENCE = 30.0
"""Seconds for one call."""

PACE = 0.3
"""Seconds before each call: v2 takes 100 in 15 seconds, and half of them are for the bridge, which
may be running."""

LONGEST_WAIT = 60.0
"""Seconds: a look is given up when v2 asks to wait for longer."""

TRIES = 4
"""Times that one call is made, if v2 asks to wait each time."""


@app.command()
@with_settings("journal", "database", "book", "upstream", "contact")
def journal(
    given: Given,
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Settle them, by looking at what v2 has.")
    ] = False,
    move: Annotated[
        bool,
        typer.Option("--move", help="Copy what the file of --journal knows to --database, once."),
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            help="Where the v2 token for accounts is that the book does not know: env:NAME or "
            "file:/absolute/path."
        ),
    ] = None,
) -> None:
    """List the writes to v2 whose outcome is not known, and settle them.

    A write is listed as open while it is being made, or when it was interrupted, and as unknown
    when its answer was lost and looking for what it made has failed.

    They are those of all bridges where database is a URL, and no --journal is given. With --move,
    what a file knows goes there: a bridge does not begin with the database before.

    With --reconcile each is looked for, but those that a running bridge is making. The exit status
    is then 1 if any is still unknown.
    """
    for_v2 = {"token": token, **given.flags}
    if not reconcile and any(for_v2[flag] for flag in ("token", "upstream", "contact")):
        fail("--token, --upstream and --contact go with --reconcile")
    if move and reconcile:
        fail("--move and --reconcile do not go together")
    files = given.load(FileSettings)
    is_shared = _is_server(files.database) and given.flags["journal"] is None
    where = files.database if is_shared else files.journal
    with failing_at(book.BookError, book.WrongField, JournalError):
        if move:
            _move(files)
            return
        if not reconcile:
            with inspecting(where) as inspection:
                _show(inspection)
            return
        v2 = given.load(UpstreamSettings)
        tokens = _tokens(files.book, token)
        with inspecting(where, take=True) as inspection:
            settled = asyncio.run(_reconcile(inspection, v2, tokens))
    if not settled:
        raise typer.Exit(1)


def _is_server(database: str) -> bool:
    from bridge.record.log.database import is_server  # noqa: PLC0415 - SQLAlchemy, not for --help

    return is_server(database)


def _move(files: FileSettings) -> None:
    if not _is_server(files.database):
        fail("--move needs --database, the URL of a server")
    number, aside = moving.move(files.journal, files.database)
    typer.echo(f"{number} writes are in the database; the file is {aside} from here on.")


NOTHING = "Nothing is open or unknown."


def _show(inspection: Inspection) -> None:
    entries = inspection.unsettled()
    if not entries:
        typer.echo(NOTHING)
        return
    print_table(
        ("id", "since", "account", "path", "outcome", "request"),
        ((*_facts(each), _said(each, inspection), each.request_id) for each in entries),
    )


def _said(entry: Entry, inspection: Inspection) -> str:
    if entry.intent.outcome is not Outcome.OPEN:
        return entry.intent.outcome
    how = "in flight" if inspection.is_in_flight(entry) else "interrupted"
    return f"open ({how})" if entry.bridge is None else f"open ({how}: {entry.bridge})"


def _facts(entry: Entry) -> tuple[str, str, str, str]:
    intent = entry.intent
    since = intent.intended_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(intent.id), since, str(intent.account_id), intent.path


# Reconciling.


def _tokens(book_file: Path | None, reference: str | None) -> Mapping[int, Secret | None]:
    """Return each account's v2 token: the book's, if it has one, else what `reference` leads to."""
    other = None if reference is None else book.read_token(reference, os.environ)
    tokens: defaultdict[int, Secret | None] = defaultdict(lambda: other)
    if book_file is not None:
        for entry in book.load(book_file, os.environ).entries:
            tokens.setdefault(entry.account_id, entry.token)
    return tokens


class StillUnknown(Exception):
    """An intent could not be settled; `str()` says why."""


async def _reconcile(
    inspection: Inspection, v2: UpstreamSettings, tokens: Mapping[int, Secret | None]
) -> bool:
    """Look for what each unsettled intent made, tell what comes out; return whether all did."""
    entries = inspection.unsettled()
    if not entries:
        typer.echo(NOTHING)
    client = V2Client(v2.upstream_client())
    settled = True
    try:
        for entry in entries:
            try:
                result = await _settle(entry, inspection, client, tokens[entry.intent.account_id])
            except (StillUnknown, UpstreamError, JournalError) as error:
                result = f"still unknown: {error}"
                settled = False
            typer.echo("\t".join((*_facts(entry), result)))
    finally:
        await client.close()
    return settled


async def _settle(
    entry: Entry, inspection: Inspection, client: V2Client, token: Secret | None
) -> str:
    """Look for what an intent made; return what is to be told of it, or raise why it is unknown."""
    intent = entry.intent
    if intent.outcome is Outcome.OPEN:
        return "in flight: the bridge is making it"
    resource = next((each for each in RESOURCES if each.name == intent.resource), None)
    if resource is None or resource.look is None or resource.collection is None:
        raise StillUnknown(f"this bridge has no resource {intent.resource}")
    if token is None:
        raise StillUnknown(f"there is no token for account {intent.account_id}: --book or --token")

    async def perform(step: Step) -> V2Response | bool:
        if isinstance(step, V2Request):
            return await _call(client, step, intent.account_id, token)
        assert isinstance(step, Settle)  # noqa: S101 - a look begins no write
        return inspection.settle(entry, step.outcome, step.made_id, found=step.found)

    try:
        made = await run(find(intent, resource.look), perform)
    except TakenUp:
        return "taken up by its client"
    if made is None:
        return "not there: its client may send it again"
    return f"done, {resource.collection.entity.element} {made.id}"


async def _call(client: V2Client, request: V2Request, account_id: int, token: Secret) -> V2Response:
    """Make a call at a pace that v2 bears, and again if v2 asks to wait."""
    wait = PACE
    for _ in range(TRIES):
        await asyncio.sleep(wait)
        response = await client.send(request, account_id=account_id, token=token, seconds=PATIENCE)
        asked = wait_after_429(response.retry_after)
        if response.status != 429 or asked > LONGEST_WAIT:
            break
        wait = asked
    return response
