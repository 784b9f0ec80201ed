"""`harvest-bridge switch`: who answers whose calls, v1 or the bridge.

What becomes of a call then is decided in `bridge.server.endpoint`.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated

import typer

from bridge.cli.asking import asking
from bridge.cli.terminal import JSON, Given, fail, print_table, printable, to_json, with_settings
from bridge.record.log.answers import CallRow
from bridge.record.log.events import ALL
from bridge.record.log.finding import Filter
from bridge.record.log.policies import Policy
from bridge.record.log.reports import Log
from bridge.record.log.times import HOUR, spelled, time_now
from bridge.side import Side

app = typer.Typer(rich_markup_mode=None)

HOLDS_WITHIN = 3
"""Seconds until all bridges go by what was decided."""

LATELY = 12 * HOUR
"""Milliseconds for which a client may yet repeat a write: `repeat_window`, unless it is set."""

MOST_LOOKED_AT = 1_000
"""Calls of each method, the latest first."""

WRITES = ("POST", "PUT", "PATCH", "DELETE")


@app.command()
@with_settings("database")
def switch(
    given: Given,
    integration: Annotated[
        str | None, typer.Argument(help="Whose calls: an id, a name or a label, or a part of it.")
    ] = None,
    for_all: Annotated[
        bool, typer.Option("--all", help="Those of all integrations of which nothing is decided.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(help="v1, bridge, or as-set: as all, or as the setting mode says."),
    ] = None,
    json: JSON = False,
) -> None:
    """List who answers whose calls; or have v1 or the bridge answer them."""
    if to is None and not for_all and integration is None:
        with asking(given) as log:
            _list(log, json)
        return
    if to not in _SIDES or for_all == (integration is not None):
        fail("name whose calls (--all or INTEGRATION), and --to: v1, bridge or as-set")
    with asking(given) as log:
        id_ = ALL if integration is None else log.find_integration(integration).id
        untold = [*_untold(log, id_)]
        log.decisions.switch(id_, _SIDES[to])
        if untold:
            typer.echo(_caution(untold), err=True)
        _list(log, json)
    if not json:
        typer.echo(f"All bridges go by this within {HOLDS_WITHIN} seconds.")


_SIDES = {**{each.value: each for each in Side}, "as-set": None}


def _untold(log: Log, integration: str) -> Iterator[CallRow]:
    """Return the writes of late whose client may not know what has become of them.

    Neither side knows what the other has done: what is repeated after a switch may be done twice.
    """
    since = time_now() - LATELY
    for method in WRITES:
        filter_ = Filter(integration=integration or None, method=method, since=since)
        rows = log.calls(filter_, limit=MOST_LOOKED_AT).rows
        yield from (row for row in rows if row.status in {None, 504} or row.client_gone)


def _caution(untold: list[CallRow]) -> str:
    named = ", ".join(str(row.id) for row in islice(untold, 3))
    more = f" and {len(untold) - 3} more" if len(untold) > 3 else ""
    return printable(
        f"harvest-bridge: of the writes of the last 12 hours, {len(untold)} ended without their "
        f"client knowing what became of them: {named}{more}. One that it repeats now may be done "
        "twice: look at them first (harvest-bridge show ID)."
    )


def _list(log: Log, json: bool) -> None:
    decided = log.decisions.policies()
    if json:
        titles = {ALL: "all", **log.titles(each.integration for each in decided)}
        told = [_told(each, titles) for each in decided if each.answered_by is not None]
        typer.echo(to_json(told))
        return
    for_all = next((each for each in decided if each.integration == ALL), Policy())
    how = "as the setting mode says" if for_all.answered_by is None else f"by {for_all.answered_by}"
    typer.echo(f"Integrations of which nothing is decided are answered {how}.")
    own = [each for each in decided if each.integration != ALL and each.answered_by is not None]
    if not own:
        return
    titles = log.titles(each.integration for each in own)
    print_table(
        ("id", "integration", "answered by", "since"),
        (
            (
                each.integration,
                titles.get(each.integration, ""),
                str(each.answered_by),
                spelled(each.changed),
            )
            for each in own
        ),
    )


def _told(policy: Policy, titles: Mapping[str, str]) -> dict[str, object]:
    return {
        "integration": policy.integration or "all",
        "title": titles.get(policy.integration, ""),
        "answered_by": policy.answered_by,
        "changed": policy.changed,
    }
