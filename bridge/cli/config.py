"""`harvest-bridge config`: the settings that a bridge would serve with, and whence each comes."""

from collections.abc import Mapping
from typing import Any

import typer

from bridge.cli.terminal import (
    JSON,
    Given,
    failing_at,
    print_table,
    spelled_value,
    to_json,
    with_settings,
)
from bridge.settings import Settings, WrongSetting, sources

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_settings(*Settings.model_fields)
def config(given: Given, json: JSON = False) -> None:
    """Print the settings that a bridge would serve with, and where each comes from.

    A password in the URL of a database is not shown. What is wrong with the settings is one line,
    and exit status 2.
    """
    settings = given.load(Settings)
    with failing_at(WrongSetting):
        found = sources(given.flags, given.config)
    values = shown_values(settings)
    if json:
        told = {
            name: {"value": values[name], "source": source.kind, "place": source.place or None}
            for name, source in found.items()
        }
        typer.echo(to_json(told))
        return
    print_table(
        ("setting", "value", "source"),
        (
            (name, spelled_value(values[name]), source.place or source.kind)
            for name, source in found.items()
        ),
    )


def shown_values(settings: Settings) -> Mapping[str, object]:
    """Return each setting's value as it may be told, as JSON has it."""
    values: dict[str, Any] = settings.model_dump(mode="json")
    if "://" in settings.database:
        from bridge.record.log.database import shown  # noqa: PLC0415 - large, and a file is itself

        values["database"] = shown(settings.database)
    values["auth"].sort()  # a set has no order
    return values
