"""`harvest-bridge check`: all that a bridge needs, looked at without serving.

What is looked at, and how, is in `bridge.checking`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.terminal import JSON, Given, print_table, to_json, with_settings
from bridge.settings import Settings, WrongSetting, load

if TYPE_CHECKING:
    from bridge.checking.findings import Finding

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_settings(*Settings.model_fields)
def check(
    given: Given,
    offline: Annotated[bool, typer.Option("--offline", help="Ask v2 nothing.")] = False,
    json: JSON = False,
) -> None:
    """Look at all that a bridge needs, without serving, and say what to mend.

    It writes nothing, and may run beside a bridge that serves. The exit status is 1 if something is
    wrong, else 0, whatever is warned of; a wrong command line is 2.
    """
    from bridge.checking.findings import Verdict  # noqa: PLC0415 - all of it is large

    found = [*_findings(given, offline=offline)]
    if json:
        typer.echo(to_json([each._asdict() for each in found]))
    else:
        print_table(("verdict", "check", "what", "mend"), ((v, c, t, m) for c, v, t, m in found))
    if any(each.verdict is Verdict.WRONG for each in found):
        raise typer.Exit(1)


def _findings(given: Given, *, offline: bool) -> "Iterator[Finding]":
    from bridge.checking.everything import check_everything  # noqa: PLC0415
    from bridge.checking.findings import wrong  # noqa: PLC0415

    try:
        settings = load(Settings, given.flags, given.config)
    except WrongSetting as error:
        for complaint in error.complaints:
            yield wrong("settings", complaint, "then the rest can be looked at")
        return
    yield from check_everything(settings, offline=offline)
