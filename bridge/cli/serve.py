"""`harvest-bridge serve`: its flags. What it does then is in `serving`."""

import signal
from functools import partial

import typer

from bridge.cli.terminal import Given, with_settings
from bridge.settings import Settings, load

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_settings(*Settings.model_fields)
def serve(given: Given) -> None:
    """Answer legacy calls."""
    # Whoever asks for a reload while it starts has it: the settings are read after this.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings = given.load(Settings)
    from bridge.cli.serving import serve_until_stopped  # noqa: PLC0415 - all of the bridge

    serve_until_stopped(settings, partial(load, Settings, given.flags, given.config))
