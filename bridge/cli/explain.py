"""`harvest-bridge explain`: what would be asked of v2 for a legacy call, without a server."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.terminal import JSON, fail, print_table, printable, to_json
from bridge.guide.explaining import Explanation, Request, explain
from bridge.v1.dialects import Dialect

app = typer.Typer(rich_markup_mode=None)


@app.command("explain")
def explain_call(
    method: Annotated[str, typer.Argument(help="Such as GET or POST.")],
    path: Annotated[str, typer.Argument(help="Such as '/invoice/1420/messages?updated_since=…'.")],
    body: Annotated[
        Path | None, typer.Option(help="The file with the request's XML; - is standard input.")
    ] = None,
    content_type: Annotated[str, typer.Option(help="Of the body.")] = "application/xml",
    dialect: Annotated[
        Dialect | None, typer.Option(help="The dialect to answer in, whatever the path says.")
    ] = None,
    json: JSON = False,
) -> None:
    """Say what would be asked of v2 for a legacy call, without a server.

    No v2 is asked: all is taken to go well. The exit status is 1 if the call would be refused.
    """
    explanation = explain(
        Request(
            method=method,
            target=path,
            body=b"" if body is None else _read(body),
            content_type=None if body is None else content_type,
            dialect=dialect,
        )
    )
    if json:
        typer.echo(to_json(explanation))
    else:
        _print(explanation)
    if explanation.error is not None:
        raise typer.Exit(1)


def _read(body: Path) -> bytes:
    try:
        return typer.get_binary_stream("stdin").read() if str(body) == "-" else body.read_bytes()
    except OSError as error:
        fail(f"--body: {body}: {error.strerror}")


def _print(told: Explanation) -> None:
    facts = {
        "call": None if told.route is None else f"{told.method} {told.route} ({told.name})",
        "dialect": told.dialect,
        "answer": str(told.status),
        "error": told.error,
        **{name: value for name, value in told.headers.items() if told.error is not None},
    }
    print_table(
        ("what", "is"), ((name, str(value)) for name, value in facts.items() if value is not None)
    )
    for call in told.v2:
        typer.echo()
        query = f"?{call.query}" if call.query else ""
        typer.echo(printable(f"v2: {call.method} {call.path}{query}"))
        if call.body is not None:
            for line in json_module.dumps(call.body, indent=2).splitlines():
                typer.echo(f"    {line}")
    if told.notes:
        typer.echo()
        print_table(
            ("note", "on", "times", "meaning"),
            ((each.code, each.subject, str(each.count), each.meaning) for each in told.notes),
        )
    if told.counterpart is not None:
        typer.echo()
        print_table(
            ("instead of", "call", "mind"),
            [(told.counterpart.v1, ", ".join(told.counterpart.v2), told.counterpart.remark)],
        )
