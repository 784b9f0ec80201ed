"""Listening: what an operator is told where it cannot be, and that nobody is lost where it ends."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from bridge.cli.loop import new_event_loop_factory
from bridge.server.serving import CannotListen, accepting, told_if_taken
from tests.support.running import LOOPBACK, running_service

TAKEN = "another process listens there: stop it, or set another"
ROOTS = (
    "ports below 1024 are for root, or for who was given CAP_NET_BIND_SERVICE "
    "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE): have that given, or set another"
)


@pytest.mark.parametrize(
    ("error", "host", "setting", "told"),
    [
        (OSError(errno.EADDRINUSE, "in their words"), "::1", "port", f"port: cannot listen on [::1]:443: Address already in use: {TAKEN} port"),
        (OSError(errno.EACCES, "in their words"), "0.0.0.0", "port", f"port: cannot listen on 0.0.0.0:443: Permission denied: {ROOTS} port"),
        (OSError(errno.EADDRNOTAVAIL, "in their words"), "192.0.2.1", "admin_port", "admin_host: cannot listen on 192.0.2.1:443: Cannot assign requested address: this machine has no such address: set another admin_host"),
        (OSError(errno.EAFNOSUPPORT, "in their words"), "::", "port", "port: cannot listen on [::]:443: Address family not supported by protocol: set another host or port"),
        (socket.gaierror(-2, "Name or service not known"), "no.such", "admin_port", "admin_host: cannot listen on no.such:443: Name or service not known: this machine has no such address: set another admin_host"),
    ],
)  # fmt: skip
def test_the_setting_the_address_and_the_remedy_are_named(
    error: OSError, host: str, setting: str, told: str
) -> None:
    with pytest.raises(CannotListen) as raised, told_if_taken(host, 443, setting):
        raise error

    assert str(raised.value) == told


@pytest.mark.parametrize("setting", ["port", "admin_port"])
async def test_which_of_the_two_ports_is_taken_is_told(setting: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"^{setting}: cannot listen on {LOOPBACK}:{port}: "):
            async with running_service("http://localhost:1/v2", account_id=1, **{setting: port}):
                pass


class Accepted:
    """What has been taken, by hand or by protocols of asyncio's."""

    def __init__(self) -> None:
        self.clients: set[object] = set()
        self.wires: list[socket.socket] = []

    def take(self, wire: socket.socket, _address: str) -> None:
        self.clients.add(wire.getpeername())
        self.wires.append(wire)

    def protocol(self) -> asyncio.Protocol:
        accepted = self

        class Taken(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.clients.add(transport.get_extra_info("peername"))
                transport.close()

        return Taken()


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    accepted = Accepted()
    yield accepted
    for wire in accepted.wires:
        wire.close()


def connected_to(port: int, clients: ExitStack) -> set[object]:
    """Connect a few clients while the loop does not turn, and return their addresses."""
    wires = [clients.enter_context(socket.create_connection((LOOPBACK, port))) for _ in range(5)]
    return {wire.getsockname() for wire in wires}


async def turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


ENOUGH = 10
"""Turns in which what has been accepted begins."""


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """The loop that a bridge runs on."""
    with asyncio.Runner(loop_factory=new_event_loop_factory()) as runner:
        yield runner


@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "by the loop"])
@pytest.mark.parametrize("turns", range(6))
class TestWhoHasConnectedWhenNoMoreIsTaken:
    """Clients connect, and the loop turns so many times."""

    def test_is_taken_yet(
        self, runner: asyncio.Runner, accepted: Accepted, by_hand: bool, turns: int
    ) -> None:
        take = accepted.take if by_hand else None

        async def stop_in_between() -> set[object]:
            with ExitStack() as clients:
                async with accepting(accepted.protocol, LOOPBACK, 0, take) as (port, stop):
                    connected = connected_to(port, clients)
                    await turn(turns)
                    stop(take_queued=True)
                    with pytest.raises(ConnectionRefusedError):
                        socket.create_connection((LOOPBACK, port))
                    await turn(ENOUGH)
                return connected

        assert runner.run(stop_in_between()) == accepted.clients

    def test_waits_for_the_next_process_on_a_socket_that_was_handed_over(
        self, runner: asyncio.Runner, accepted: Accepted, by_hand: bool, turns: int
    ) -> None:
        take = accepted.take if by_hand else None

        async def stop_in_between(handed: socket.socket) -> tuple[set[object], set[object]]:
            with ExitStack() as clients:
                listens_on = accepting(accepted.protocol, "", 0, take, [handed.dup()])
                async with listens_on as (port, stop):
                    connected = connected_to(port, clients)
                    await turn(turns)
                    stop(take_queued=True)
                    await turn(ENOUGH)
                waiting = set[object]()
                with suppress(BlockingIOError):
                    while True:
                        wire, address = handed.accept()
                        wire.close()
                        waiting.add(address)
                return connected, waiting

        with socket.create_server((LOOPBACK, 0)) as handed:
            handed.setblocking(False)
            connected, waiting = runner.run(stop_in_between(handed))

        assert not waiting & accepted.clients
        assert waiting | accepted.clients == connected
