"""`harvest-bridge plan`: what an integration has to call instead of v1."""

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from bridge.cli.asking import asking, time_option
from bridge.cli.terminal import JSON, Given, fail, printable, to_json, with_settings
from bridge.guide.plan import Change, Plan, Step, plan
from bridge.record.log.times import spelled

app = typer.Typer(rich_markup_mode=None)


@app.command("plan")
@with_settings("database")
def show_plan(
    given: Given,
    integration: Annotated[
        str, typer.Argument(help="Whose: an id, a name or a label of the book, or a part of it.")
    ],
    since: Annotated[
        str | None, typer.Option(help="Of what it has called since: 30d, 2026-11-01.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, on a terminal, too.")
    ] = False,
    json: JSON = False,
) -> None:
    """Say what an integration has to call instead, as a list of what to do.

    Where nobody looks, it is Markdown.
    """
    if json and markdown:
        fail("--json and --markdown: one of them")
    start = time_option("since", since)
    with asking(given) as log:
        found = log.find_integration(integration)
        made = plan(found, log.routes(found.id, since=start), log.notes(found.id, since=start))
    if json:
        typer.echo(to_json(made))
        return
    text = "\n".join(_markdown(made))
    if markdown or not sys.stdout.isatty():
        typer.echo(text)
    else:
        from rich.console import Console  # noqa: PLC0415 - large, and only for eyes
        from rich.markdown import Markdown  # noqa: PLC0415

        Console().print(Markdown(text, hyperlinks=False))


def _markdown(made: Plan) -> Iterator[str]:
    who = made.integration
    yield f"# What {_plain(who.title)} has to call instead"
    yield ""
    yield f"Integration {who.id}, last seen {spelled(who.last_seen)}, state {who.state}."
    yield ""
    yield "With every call:"
    yield ""
    yield from (f"- {each}" for each in made.everywhere)
    for step in made.steps:
        yield from _step(step)


def _step(step: Step) -> Iterator[str]:
    yield ""
    yield f"## [ ] {_plain(f'{step.method} {step.route}')}"
    yield ""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in step.outcomes.items())
    yield (
        f"Calls since {spelled(step.first_seen)[:10]}: {step.calls} ({outcomes}), the last one "
        f"in the hour of {spelled(step.last_seen)}."
    )
    if step.v2:
        yield ""
        yield "```sh"
        yield from (call.curl for call in step.v2)
        yield "```"
    if step.remarks:
        yield ""
        yield from (f"- {each}" for each in step.remarks)
    yield from _changes("What is sent", step.body)
    yield from _changes("What is answered", step.answer)
    if step.notes:
        yield ""
        yield "What was noted of its calls:"
        yield ""
        for note in step.notes:
            what = f"{_plain(note.code)} on {_plain(note.subject)}"
            yield f"- {what} (calls: {note.calls}): {note.meaning}"


def _changes(heading: str, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        return
    differing = [each for each in changes if each.what]
    yield ""
    yield f"{heading}: " + (
        "each field has the same name, with underscores."
        if not differing
        else f"{len(changes)} fields, of which {len(differing)} differ in more than underscores."
    )
    if not differing:
        return
    yield ""
    yield "| v1 | type | v2 | type | what changes |"
    yield "| --- | --- | --- | --- | --- |"
    for each in differing:
        before = (each.v1 or "none", each.v1_type or "")
        after = (each.v2 or "none", each.v2_type or "")
        cells = (*before, *after, ", ".join(each.what))
        yield f"| {' | '.join(cells)} |"


_MARKUP = str.maketrans({each: f"\\{each}" for each in r"\`*_[]<>|#"})


def _plain(text: str) -> str:
    """Return a text that may be a client's, such that it is no markup."""
    return printable(text).translate(_MARKUP)
