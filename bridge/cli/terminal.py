"""How the commands speak to their user: in flags, rows, JSON, or in one line that ends them."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from enum import StrEnum
from functools import update_wrapper
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, get_args, get_origin

import msgspec
import typer
from pydantic import IPvAnyNetwork

from bridge.record.log.ids import with_text_ids
from bridge.settings import PREFIX, Part, Settings, WrongSetting, load


def fail(message: str, status: int = 2) -> NoReturn:
    """End the command with one line on standard error, and this exit status."""
    typer.echo(f"harvest-bridge: {message}", err=True)
    raise typer.Exit(status)


@contextmanager
def failing_at(*errors: type[Exception], status: int = 2) -> Iterator[None]:
    """End the command with what an error says, if one of these is raised in the block."""
    try:
        yield
    except errors as error:
        fail(str(error), status)


class Given(NamedTuple):
    """What the user says of settings."""

    flags: Mapping[str, str | None]
    config: Path | None

    def load(self, part: type[Part]) -> Part:
        """Gather some of the settings; what is wrong with them ends the command."""
        with failing_at(WrongSetting):
            return load(part, self.flags, self.config)


JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]

CONFIG = Annotated[
    Path | None,
    # Whoever reads it says which setting it is.
    typer.Option(
        help="A TOML file with settings.",
        envvar=f"{PREFIX}CONFIG",
        metavar="PATH",
        readable=False,
    ),
]


def with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags for these settings, whose values are its first argument."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        def run(config: Path | None, **arguments: Any) -> None:  # noqa: ANN401 - the command's own
            flags = {name: arguments.pop(name) for name in names}
            command(Given(flags, config), **arguments)

        _, *own = signature(command).parameters.values()
        given = [*map(_flag, names), _keyword("config", CONFIG, None)]
        update_wrapper(run, command)
        setattr(run, "__signature__", signature(command).replace(parameters=[*own, *given]))  # noqa: B010
        return run

    return give


def _flag(setting: str) -> Parameter:
    field = Settings.model_fields[setting]
    facts = [f"{PREFIX}{setting.upper()}"]
    if field.is_required():
        facts.append("must be set")
    elif field.default not in {None, (), frozenset()}:
        facts.append(f"default: {spelled_value(field.default)}")
    option = typer.Option(
        None,
        "--" + setting.replace("_", "-"),
        help=f"{field.description} [{'; '.join(facts)}]",
        metavar=_spelled_type(field.annotation),
    )
    return _keyword(setting, str | None, option)


def spelled_value(value: object) -> str:
    """Spell the value of a setting as a flag would have it; nothing for none."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


_TYPES: Mapping[object, str] = {
    IPvAnyNetwork: "NETWORK",
    Path: "PATH",
    date: "DATE",
    float: "NUMBER",
    int: "INTEGER",
}


def _spelled_type(annotation: Any) -> str:  # noqa: ANN401 - whatever a setting can be
    if inner := get_args(annotation):
        is_list = get_origin(annotation) in {frozenset, tuple}  # else annotated, or that or None
        return _spelled_type(inner[0]) + (",…" if is_list else "")
    if issubclass(annotation, StrEnum):
        return "|".join(annotation)
    return _TYPES.get(annotation, "TEXT")


def _keyword(name: str, annotation: Any, default: Any) -> Parameter:  # noqa: ANN401
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


_HARMFUL = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""What moves a terminal's cursor, turns its text around, ends a line, or is no character."""


def printable(text: str) -> str:
    """Return a text such that it does nothing to a terminal: it may be a client's."""
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text)


def print_table(
    head: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    stacks: Sequence[tuple[str, ...]] = (),
) -> None:
    """Print a table for eyes, or lines with tabs between the cells where nobody looks.

    `stacks` are the columns of a terminal that is too narrow for all: each of several, one below
    the other.
    """
    if not sys.stdout.isatty():
        typer.echo("\t".join(head))
        for row in rows:
            typer.echo("\t".join(map(printable, row)))
        return
    from rich import box  # noqa: PLC0415 - large, and only for eyes
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    cells = [tuple(map(printable, row)) for row in rows]
    terminal = Console().size
    is_stacked = bool(stacks) and _least_width(head, cells) > terminal.width
    if is_stacked:
        places = [[head.index(name) for name in stack] for stack in stacks]
        head, *cells = [_stacked(row, places) for row in (head, *cells)]
    table = Table(box=box.SIMPLE, leading=1 if is_stacked else 0)
    for name, width in zip(head, _widths(head, cells), strict=True):
        table.add_column(name, overflow="fold", min_width=min(width, LEAST_WIDTH))
    for row in cells:
        table.add_row(*map(Text, row))  # text, not markup
    # Rather than leave columns out, have the lines of a narrow terminal wrapped.
    width = max(terminal.width, _least_width(head, cells))
    Console(width=width, height=terminal.height).print(table)


def _stacked(row: tuple[str, ...], places: list[list[int]]) -> tuple[str, ...]:
    return tuple("\n".join(row[at] for at in stack if row[at]) for stack in places)


def _widths(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[int]:
    """Return how wide each column is if no cell of it is wrapped."""
    columns = zip(head, *rows, strict=True)
    return [max(len(line) for cell in each for line in cell.split("\n")) for each in columns]


def _least_width(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> int:
    return sum(min(width, LEAST_WIDTH) + BETWEEN for width in _widths(head, rows)) + 1


LEAST_WIDTH = 20
"""Characters of a column with long texts, at least: an id and a time stay whole."""

BETWEEN = 3
"""Characters between two columns."""


def to_json(value: Any) -> str:  # noqa: ANN401 - whatever msgspec knows
    """Spell a value as JSON in ASCII, which does nothing to a terminal; ids of calls are texts."""
    return json.dumps(with_text_ids(msgspec.to_builtins(value)))
