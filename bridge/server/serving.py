"""How servers come to listen, and when they stop."""

import asyncio
import errno
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import structlog
from aiohttp import web

_log = structlog.get_logger("bridge")

_BACKLOG = 1024
"""Connections that the kernel holds for the next turn of the event loop."""

_PAUSE_AFTER_FAILURE = 1.0
"""Seconds to the next try to accept, as asyncio's own server has it."""


class CannotListen(Exception):
    """An address cannot be listened on; `str()` is one line for the operator."""


_ADVICE: Mapping[int | None, str] = {
    errno.EADDRINUSE: "another process listens there: stop it, or set another {port}",
    errno.EACCES: "ports below 1024 are for root, or for who was given CAP_NET_BIND_SERVICE "
    "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE): have that given, or set another {port}",
    errno.EADDRNOTAVAIL: "this machine has no such address: set another {host}",
}
"""What can be done about it, and by whom, by the error's number."""


@contextmanager
def told_if_taken(host: str, port: int, setting: str = "port") -> Iterator[None]:
    """Have an `OSError` in the block say which address it is about, and which setting that is.

    `setting` is the port's; the host's has the same name but for that word.

    Raises:
        CannotListen: instead of the `OSError`.
    """
    try:
        yield
    except OSError as error:
        names = {"port": setting, "host": setting.replace("port", "host")}
        if isinstance(error, socket.gaierror):
            what, advice, name = error.strerror, _ADVICE[errno.EADDRNOTAVAIL], names["host"]
        else:
            # Not its own words, which differ from one event loop to another.
            what = os.strerror(error.errno) if error.errno else str(error)
            advice = _ADVICE.get(error.errno, "set another {host} or {port}")
            name = names["host" if error.errno == errno.EADDRNOTAVAIL else "port"]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise CannotListen(
            f"{name}: cannot listen on {address}: {what}: {advice.format_map(names)}"
        ) from None


@asynccontextmanager
async def listening(
    runner: web.BaseRunner, host: str, port: int, setting: str = "port"
) -> AsyncIterator[int]:
    """Serve `runner` on `host` and `port` (0 takes a free one) and yield the port it got.

    Raises:
        CannotListen: the address, whose port is the value of `setting`, cannot be listened on.
    """
    await runner.setup()
    try:
        with told_if_taken(host, port, setting):
            await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


Contexts = Callable[[], ssl.SSLContext]
"""Answers which context of TLS the next connection begins with."""

Take = Callable[[socket.socket, str], None]
"""Takes a connection that has been accepted, and the address of its client."""


class _Queue:
    """The connections that the kernel holds for one listening socket, taken one by one."""

    def __init__(self, bound: socket.socket, take: Take) -> None:
        """Have the socket once more, so that it can be read whoever closes it otherwise."""
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(fileno=os.dup(bound.fileno()))
        self._listener.setblocking(False)
        self._take = take
        self._pause: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """Take one in each turn of the event loop: there may be many, and others wait, too."""
        self._listener.listen(_BACKLOG)
        self._keep_taking()

    def _keep_taking(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._take_next)

    def take_all(self) -> None:
        """Take those that are there."""
        while self._take_next():
            pass

    def _take_next(self) -> bool:
        try:
            wire, address = self._listener.accept()
        except BlockingIOError:  # none, or another process was quicker
            return False
        except OSError as error:
            _log.error("cannot_accept", error=type(error).__name__, errno=error.errno)
            if self._loop.remove_reader(self._listener):
                self._pause = self._loop.call_later(_PAUSE_AFTER_FAILURE, self._keep_taking)
            return False
        wire.setblocking(False)
        self._take(wire, address[0])
        return True

    def close(self) -> None:
        """Take no more."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        if self._pause is not None:
            self._pause.cancel()


class Stop(Protocol):
    """Has no more connections taken; those that are open stay."""

    def __call__(self, *, take_queued: bool = False) -> None:
        """Close what listens; with `take_queued`, after taking who has connected before.

        Their connections would be reset. Not so on a socket that was handed over: there they wait
        for the next process.
        """


@asynccontextmanager
async def accepting(
    protocols: Callable[[], asyncio.BaseProtocol],
    host: str,
    port: int,
    take: Take | None,
    handed: Sequence[socket.socket] = (),
) -> AsyncIterator[tuple[int, Stop]]:
    """Listen on `host` and `port` (0 takes a free one) with a long queue of connections.

    If sockets were `handed` over, it is on those instead. Who handed them over may hold them, too:
    what comes when no more is taken waits there for the next process.

    Each gets one of `protocols`, or is handed to `take`, which has to begin it: asyncio's own
    server tells of a connection only after its handshake. Yields the port it got, and what takes no
    more connections.

    Raises:
        OSError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    options: Any = {"backlog": _BACKLOG, "start_serving": take is None}
    servers = [await loop.create_server(protocols, sock=each, **options) for each in handed]
    if not handed:
        servers = [await loop.create_server(protocols, host, port, **options)]
    bound = [each for server in servers for each in server.sockets]
    beginning: list[asyncio.Task[Any]] = []

    def begin(wire: socket.socket, _address: str) -> None:
        beginning.append(loop.create_task(loop.connect_accepted_socket(protocols, wire)))

    queues = [] if take is None else [_Queue(each, take) for each in bound]
    for queue in queues:
        queue.listen()

    def stop(*, take_queued: bool = False) -> None:
        if take_queued and not handed:
            queues.extend(_Queue(each, begin) for each in (bound if take is None else ()))
            for queue in queues:
                queue.take_all()
        for queue in queues:
            queue.close()
        for server in servers:
            server.close()

    try:
        yield bound[0].getsockname()[1], stop
    finally:
        stop()
        await asyncio.gather(*beginning, return_exceptions=True)


_GLANCE = 16
"""Bytes that tell which TLS a client speaks; they come in one segment, or not at all."""


async def first_bytes(wire: socket.socket) -> bytes:
    """Wait for the first bytes of a connection, and leave them to be read.

    There are a few of them, or none: its client has left without one.
    """
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def tell() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(wire, tell)
    try:
        await readable
    finally:
        loop.remove_reader(wire)
    try:
        return wire.recv(_GLANCE, socket.MSG_PEEK)
    except OSError:
        return b""


class Signals:
    """What the operator tells the process: to stop (SIGINT, SIGTERM), to reload (SIGHUP).

    Make it before anything is announced: what is heard from then on is kept until it is waited for.
    """

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._hurry: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry()
        self._stop.set()

    async def until_stop(
        self,
        reload: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait to be told to stop; `reload` when that is asked for, `hurry` when told again."""

        async def keep_reloading() -> None:
            while True:
                await self._reload.wait()
                self._reload.clear()
                try:
                    await reload()
                except Exception:  # noqa: BLE001 - the next one may fare better
                    _log.exception("not_reloaded")

        self._hurry = hurry
        reloading = asyncio.create_task(keep_reloading())
        await self._stop.wait()
        reloading.cancel()
