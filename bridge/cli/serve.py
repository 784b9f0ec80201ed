"""`harvest-bridge serve`: the bridge itself."""

import asyncio

import typer

from bridge.cli.loop import run
from bridge.cli.terminal import Given, with_settings
from bridge.identity.book import BookError
from bridge.record.store import JournalError
from bridge.server import logs
from bridge.server.service import running
from bridge.server.serving import Signals
from bridge.server.tls import UnusableCertificate
from bridge.settings import Settings

app = typer.Typer()


@app.command()
@with_settings(*Settings.model_fields)
def serve(given: Given) -> None:
    """Answer legacy calls."""
    settings = given.load(Settings)
    logs.configure()
    run(_serve(settings), BookError, JournalError, UnusableCertificate)


async def _serve(settings: Settings) -> None:
    signals = Signals()
    async with running(settings) as service:
        logs.started("bridge", settings.host, service.port, upstream=settings.upstream)
        logs.started("admin", settings.admin_host, service.admin_port)
        telling = asyncio.create_task(service.say_what_is_wrong())
        await signals.until_stop(service.reload, service.hurry)
        telling.cancel()
