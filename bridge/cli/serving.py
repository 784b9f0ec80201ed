"""What `harvest-bridge serve` does: a bridge until it is told to stop. Its flags are in `serve`."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from bridge.cli.loop import run
from bridge.identity.book import BookError
from bridge.record.journal.rules import JournalError
from bridge.record.log.database import LogError
from bridge.server import logs
from bridge.server.admin.token import UnusableToken
from bridge.server.service import CannotTrace, LeadsBackHere, running
from bridge.server.service_manager import ServiceManager, take_sockets
from bridge.server.serving import Signals
from bridge.server.tls import UnusableCertificate
from bridge.settings import PATHS, Settings, where


def serve_until_stopped(settings: Settings, read_again: Callable[[], Settings]) -> None:
    """Serve; what is wrong with the files that the settings name ends the command.

    `read_again` gathers the settings anew, for a reload.
    """
    logs.configure(form=settings.log_format, level=settings.log_level)
    run(_serve(settings, read_again), WrongFile)


class WrongFile(Exception):
    """A file that a setting names cannot be used; `str()` says which setting, and why."""


@contextmanager
def _told_with_its_setting(settings: Settings) -> Iterator[None]:
    try:
        yield
    except UnusableToken as error:
        raise WrongFile(f"admin_bearer_token: {error} {where('admin_bearer_token')}") from None
    except LeadsBackHere as error:
        raise WrongFile(str(error)) from None
    except LogError as error:
        raise WrongFile(f"{error.setting}: {error} {where(error.setting)}") from None
    except (BookError, CannotTrace, JournalError, UnusableCertificate) as error:
        told = str(error)
        names = (name for name in PATHS if f"{getattr(settings, name)}: " in told)
        name = next(names, None)
        raise WrongFile(told if name is None else f"{name}: {told} {where(name)}") from None


async def _serve(settings: Settings, read_again: Callable[[], Settings]) -> None:
    signals, manager = Signals(), ServiceManager(os.environ)
    handed = take_sockets(os.environ)
    settings = handed.in_place_of(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(manager.watching())
        with _told_with_its_setting(settings):
            service = await stack.enter_async_context(
                running(
                    settings, handed=handed, read_again=lambda: handed.in_place_of(read_again())
                )
            )
        logs.started("bridge", settings.host, service.port, upstream=settings.upstream)
        logs.started("admin", settings.admin_host, service.admin_port)
        telling = asyncio.create_task(service.say_what_is_wrong())
        manager.ready()
        await signals.until_stop(manager.told_of(service.reload), service.hurry)
        manager.stopping(settings.stop_timeout)
        telling.cancel()
