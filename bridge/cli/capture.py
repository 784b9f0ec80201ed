"""`harvest-bridge capture`: whose calls are kept with both sides, and until when.

What a rule means, and what is kept, is written in `bridge.record.log.capture`.
"""

from typing import Annotated

import typer

from bridge.cli.asking import asking
from bridge.cli.terminal import JSON, Given, fail, print_table, to_json, with_settings
from bridge.record.log.capture import Mode, Rule, UnusableRule, read_span
from bridge.record.log.events import ALL
from bridge.record.log.reports import Log
from bridge.record.log.times import spelled, time_now

app = typer.Typer(rich_markup_mode=None)

RAW = (
    "Raw: bodies are kept with the addresses, names and texts of people. "
    "Only passwords and tokens are left out."
)


@app.command()
@with_settings("database")
def capture(
    given: Given,
    said: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INTEGRATION] [errors|all|off]",
            help="Whose calls: an id or its beginning, a name, or a label of the book; and which.",
        ),
    ] = None,
    for_all: Annotated[
        bool, typer.Option("--all", help="Those of all integrations without a rule of their own.")
    ] = False,
    span: Annotated[
        str, typer.Option("--for", help="How long: 30m, 1h, 2d; 7d at the most.")
    ] = "1h",
    raw: Annotated[
        bool, typer.Option("--raw", help="Keep addresses, names and texts as they are.")
    ] = False,
    json: JSON = False,
) -> None:
    """List what is captured; or capture calls for a while, or no more."""
    words = said or []
    with asking(given) as log:
        if words or for_all:
            if len(words) != (1 if for_all else 2):
                fail("name whose calls (--all or INTEGRATION), and which: errors, all or off")
            integration = ALL if for_all else log.find_integration(words[0]).id
            _set(log, integration, words[-1], span, raw)
        elif raw:
            fail("--raw needs to know whose calls")
        _list(log, json)


def _set(log: Log, integration: str, mode: str, span: str, raw: bool) -> None:
    if mode not in set(Mode):
        fail(f"{mode!r} is none of errors, all and off")
    now = time_now()
    try:
        until = now + read_span(span)
        rule = Rule(integration=integration, mode=Mode(mode), raw=raw, since=now, until=until)
        log.decisions.put_capture_rule(rule)
    except UnusableRule as error:
        fail(f"--for {error}")
    if raw and rule.mode is not Mode.OFF:
        typer.echo(f"harvest-bridge: {RAW}", err=True)


def _list(log: Log, json: bool) -> None:
    rules = log.decisions.capture_rules()
    if json:
        typer.echo(to_json(rules))
        return
    if not rules:
        typer.echo("Nothing is captured.")
        return
    print_table(
        ("integration", "what", "since", "until", "texts"),
        (
            (
                each.integration or "all",
                each.mode,
                spelled(each.since),
                spelled(each.until),
                "raw" if each.raw else "stand-ins",
            )
            for each in rules
        ),
    )
