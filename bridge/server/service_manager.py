"""What a service manager such as systemd hands over, listening sockets, and what it is told.

Both protocols are a few lines of text: sd_listen_fds(3), sd_notify(3). Without a service manager,
nothing is handed over, and nobody told.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import NamedTuple

import structlog

from bridge.server.serving import CannotListen
from bridge.settings import Settings

_log = structlog.get_logger("bridge")

_FIRST = 3
"""The descriptor of the first socket (SD_LISTEN_FDS_START)."""

_ADVICE = "name each legacy or admin (systemd: FileDescriptorName=legacy in the socket unit)"

_MARGIN = 15.0
"""Seconds to end in, beyond those that calls under way are given."""

_SEND_TIMEOUT = 1.0
"""Seconds to wait for a service manager that does not read."""


class Handed(NamedTuple):
    """The sockets that were handed over; none for a side that opens its own."""

    legacy: tuple[socket.socket, ...] = ()
    admin: tuple[socket.socket, ...] = ()

    def in_place_of(self, settings: Settings) -> Settings:
        """Return the settings with the addresses of what was handed over.

        Who may see the admin side depends on its address: of several, the one counts that others
        than this machine reach.
        """
        addresses: dict[str, object] = {}
        for prefix, sockets in (("", self.legacy), ("admin_", self.admin)):
            names = [each.getsockname()[:2] for each in sockets]
            for host, port in sorted(names, key=lambda name: ip_address(name[0]).is_loopback)[:1]:
                addresses |= {f"{prefix}host": host, f"{prefix}port": port}
        return settings.model_copy(update=addresses)


def take_sockets(environ: MutableMapping[str, str]) -> Handed:
    """Return what was handed over to this process, and take it out of its environment.

    What is meant for another process, by `LISTEN_PID`, is not.

    Raises:
        CannotListen: a socket is none that TCP connections can be accepted from, or has no name
            that says which side it is for.
    """
    count, names = environ.pop("LISTEN_FDS", "0"), environ.pop("LISTEN_FDNAMES", "")
    if environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return Handed()
    if not count.isdecimal():
        raise CannotListen("LISTEN_FDS: must be a number")
    sides: dict[str, list[socket.socket]] = {side: [] for side in Handed._fields}
    named = names.split(":") if names else []
    for position in range(int(count)):
        name = named[position] if position < len(named) else ""
        if name not in sides:
            told = f"has the name '{name}'" if name else "has no name"
            raise CannotListen(f"a socket was handed over that {told}: {_ADVICE}")
        sides[name].append(_listening_socket(_FIRST + position, name))
    return Handed(**{side: tuple(sockets) for side, sockets in sides.items()})


def _listening_socket(descriptor: int, name: str) -> socket.socket:
    try:
        handed = socket.socket(fileno=descriptor)
        listens = handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotListen(f"{name}: descriptor {descriptor}: {error.strerror}") from None
    if handed.family not in {socket.AF_INET, socket.AF_INET6} or not listens:
        handed.close()
        raise CannotListen(
            f"{name}: the socket that was handed over does not listen for TCP connections: "
            "have it do so (systemd: ListenStream= with an address and a port, Accept=no)"
        )
    handed.set_inheritable(False)
    return handed


class ServiceManager:
    """Is told how the process stands; nobody is, where `NOTIFY_SOCKET` is not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read whom to tell, and how often, from the environment."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._interval = int(microseconds) / 2e6 if is_ours and microseconds.isdecimal() else 0.0
        """Seconds, half of what the watchdog waits; 0: there is none."""

    def _tell(self, *assignments: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        # An @ stands for the zero byte of an address that is no file (unix(7), "abstract").
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
                wire.settimeout(_SEND_TIMEOUT)
                wire.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            _log.warning("service_manager_not_told", reason=error.strerror or str(error))

    def ready(self) -> None:
        """Tell that calls are answered."""
        self._tell("READY=1")

    def stopping(self, seconds: float) -> None:
        """Tell that the process ends, within so many seconds for calls and some more."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round((seconds + _MARGIN) * 1e6)}")

    def told_of(self, reload: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
        """Return `reload` so that its beginning and end are told."""

        async def told() -> None:
            # By this time, systemd tells this reload from one before (Type=notify-reload).
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                await reload()
            finally:
                self.ready()

        return told

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Until the end of the block, tell the watchdog that the event loop turns."""

        async def tell_again_and_again() -> None:
            while self._interval:
                self._tell("WATCHDOG=1")
                await asyncio.sleep(self._interval)

        telling = asyncio.create_task(tell_again_and_again())
        try:
            yield
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
