"""`harvest-bridge shadow`: of whose calls both sides are asked, and how their answers compare.

What is compared, and how, is written in `bridge.server.shadow` and `bridge.comparing`.
"""

import re
from typing import Annotated

import typer

from bridge.cli.asking import asking, print_places, time_option
from bridge.cli.terminal import JSON, Given, fail, print_table, printable, to_json, with_settings
from bridge.record.log.answers import Integration
from bridge.record.log.events import ALL
from bridge.record.log.reports import Log

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_settings("database")
def shadow(
    given: Given,
    integration: Annotated[
        str | None, typer.Argument(help="Whose: its id, name or label, or a part of it.")
    ] = None,
    for_all: Annotated[
        bool, typer.Option("--all", help="Those of all integrations without a share of their own.")
    ] = False,
    percent: Annotated[
        str | None,
        typer.Option(
            help="Of how many per cent of the GETs to ask both sides, 0 to 100; or as-set: as all, "
            "or as the setting shadow_percent says."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Count from that day on (UTC): 7d, 2026-11-01.")
    ] = None,
    json: JSON = False,
) -> None:
    """Say how v1's answers and the bridge's compare; or have more compared."""
    start = time_option("since", since)
    if for_all and integration is not None:
        fail("--all and an integration: one of them")
    if percent is not None and not for_all and integration is None:
        fail("--percent needs to know whose calls: --all or INTEGRATION")
    if for_all and percent is None:
        fail("--all needs --percent")
    share = None if percent is None else _percent(percent)
    with asking(given) as log:
        found = None if integration is None else log.find_integration(integration)
        if percent is not None:
            log.decisions.shadow(ALL if found is None else found.id, share)
        if found is None or percent is not None:
            _list(log, start, json)
        else:
            _show(log, found, start, json)


def _percent(text: str) -> int | None:
    if text == "as-set":
        return None
    if not re.fullmatch("[0-9]{1,3}", text) or int(text) > 100:
        fail("--percent: must be a number from 0 to 100, or as-set")
    return int(text)


def _list(log: Log, since: int | None, json: bool) -> None:
    """List what is on, and the score of all of which there is one."""
    decided = {each.integration: each.shadow_percent for each in log.decisions.policies()}
    scores = log.scores(since=since)
    for_all = decided.get(ALL)
    if json:
        told = {
            "percent": for_all,
            "integrations": [
                {"id": id_, "percent": decided.get(id_), "score": scores.get(id_)}
                for id_ in sorted({*decided, *scores} - {ALL})
            ],
        }
        typer.echo(to_json(told))
        return
    how = "as shadow_percent says" if for_all is None else f"{for_all} % of the GETs"
    typer.echo(f"Of integrations without a share of their own: {how}.")
    ids = sorted({each for each in decided if decided[each] is not None} - {ALL} | {*scores})
    if not ids:
        typer.echo("Nothing was compared yet.")
        return
    titles = log.titles(ids)
    print_table(
        ("id", "integration", "share", "v1 and bridge"),
        (
            (
                id_,
                titles.get(id_, ""),
                _share(decided.get(id_)),
                str(scores.get(id_, "none compared")),
            )
            for id_ in ids
        ),
    )


def _share(percent: int | None) -> str:
    return "as all" if percent is None else f"{percent} %"


def _show(log: Log, found: Integration, since: int | None, json: bool) -> None:
    """Show where the answers to one integration's calls differ."""
    score = log.score(found.id, since=since)
    if json:
        typer.echo(to_json({"id": found.id, "title": found.title, "score": score}))
        return
    typer.echo(printable(f"{found.title}: {score}."))
    if score.places:
        print_places(score)
