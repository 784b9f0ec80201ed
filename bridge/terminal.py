"""How the commands speak to their user: in rows, or in one line that ends them."""

import sys
from collections.abc import Iterable
from typing import NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def fail(message: str, status: int = 2) -> NoReturn:
    """End the command with one line on standard error, and this exit status."""
    typer.echo(f"harvest-bridge: {message}", err=True)
    raise typer.Exit(status)


def print_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table for eyes, or lines with tabs between the cells where nobody looks."""
    if not sys.stdout.isatty():
        for row in (head, *rows):
            typer.echo("\t".join(row))
        return
    table = Table(box=box.SIMPLE)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # text, not markup
    Console().print(table)
