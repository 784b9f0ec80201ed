"""`harvest-bridge serve`: the bridge itself."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import typer

from bridge.cli.loop import run
from bridge.cli.terminal import Given, with_settings
from bridge.identity.book import BookError
from bridge.record.journal.rules import JournalError
from bridge.record.log.database import LogError
from bridge.server import logs
from bridge.server.admin.token import UnusableToken
from bridge.server.service import CannotTrace, running
from bridge.server.serving import Signals
from bridge.server.tls import UnusableCertificate
from bridge.settings import PATHS, Settings, where

app = typer.Typer()


@app.command()
@with_settings(*Settings.model_fields)
def serve(given: Given) -> None:
    """Answer legacy calls."""
    settings = given.load(Settings)
    logs.configure(form=settings.log_format, level=settings.log_level)
    run(_serve(settings), WrongFile)


class WrongFile(Exception):
    """A file that a setting names cannot be used; `str()` says which setting, and why."""


@contextmanager
def _told_with_its_setting(settings: Settings) -> Iterator[None]:
    try:
        yield
    except UnusableToken as error:
        raise WrongFile(f"admin_bearer_token: {error} {where('admin_bearer_token')}") from None
    except LogError as error:
        raise WrongFile(f"{error.setting}: {error} {where(error.setting)}") from None
    except (BookError, CannotTrace, JournalError, UnusableCertificate) as error:
        told = str(error)
        names = (name for name in PATHS if f"{getattr(settings, name)}: " in told)
        name = next(names, None)
        raise WrongFile(told if name is None else f"{name}: {told} {where(name)}") from None


async def _serve(settings: Settings) -> None:
    signals = Signals()
    async with AsyncExitStack() as stack:
        with _told_with_its_setting(settings):
            service = await stack.enter_async_context(running(settings))
        logs.started("bridge", settings.host, service.port, upstream=settings.upstream)
        logs.started("admin", settings.admin_host, service.admin_port)
        telling = asyncio.create_task(service.say_what_is_wrong())
        await signals.until_stop(service.reload, service.hurry)
        telling.cancel()
