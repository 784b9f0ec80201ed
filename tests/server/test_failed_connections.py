"""Connections of which no call came: what failed, from where, how often; and what a flood costs."""

import asyncio
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
import trustme

from bridge.cli.loop import new_event_loop_factory
from bridge.record.log.events import ConnectionEvent
from bridge.server.failed_connections import (
    INTERVAL,
    KINDS,
    KINDS_A_DAY,
    OTHERS,
    FailedConnections,
)
from bridge.server.handshakes import _HANDSHAKES
from bridge.server.tls import server_context
from tests.support.certificates import put_in_place
from tests.support.clocks import Leaps, until
from tests.support.fronts import running_front
from tests.support.logged import logging
from tests.support.running import LOOPBACK, running_bridge
from tests.support.upstream import ScriptedUpstream

HANDSHAKE, NOT_HTTP, REFUSED = "tls_handshake_failed", "not_http", "connection_refused"

Told = list[ConnectionEvent]

LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None

LOOPS = {None: "asyncio", new_event_loop_factory(): "uvloop"}
"""Those that the bridge may run on."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """The server's side, with a certificate of a private CA and an elliptic key."""
    issued = trustme.CA().issue_cert("localhost")
    return server_context([put_in_place(issued, tmp_path_factory.mktemp("tls"))])


def _tls_1_0() -> ssl.SSLContext:
    context = _blind()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.options &= ~ssl.OP_NO_TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def _rsa_only() -> ssl.SSLContext:
    context = _blind()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    return context


def _blind() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _shake(context: Callable[[], ssl.SSLContext]) -> Callable[[socket.socket], object]:
    return lambda wire: context().wrap_socket(wire, server_hostname="localhost")


def _reset(wire: socket.socket) -> None:
    wire.sendall(b"\x16\x03\x01\x00\xf0\x01")  # the beginning of a ClientHello
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def meeting(port: int, client: Callable[[socket.socket], object]) -> None:
    """Have a client connect, do what it does, and wait until the bridge hangs up, if it still can."""

    def meet() -> None:
        with socket.create_connection((LOOPBACK, port)) as wire, suppress(OSError):
            client(wire)
            wire.recv(1)

    await asyncio.to_thread(meet)


class TestHandshakes:
    @pytest.mark.filterwarnings("ignore:ssl.*deprecated")
    @pytest.mark.parametrize(
        ("client", "reason"),
        [
            pytest.param(_shake(_tls_1_0), "protocol-version", id="TLS 1.0"),
            pytest.param(_shake(ssl.create_default_context), "unknown-ca", id="no trust"),
            pytest.param(_shake(_rsa_only), "no-shared-cipher", id="other ciphers"),
            pytest.param(lambda wire: wire.sendall(b"GET / HTTP/1.1\r\n\r\n"), "plain-http", id="HTTP"),
            pytest.param(lambda wire: wire.sendall(b"\x00" * 64), "not-tls", id="garbage"),
            pytest.param(_reset, "reset", id="gone"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("loop", LOOPS, ids=LOOPS.values())
    def test_one_that_fails_is_told_with_its_network_and_reason(
        self,
        tls: ssl.SSLContext,
        client: Callable[[socket.socket], object],
        reason: str,
        loop: LoopFactory,
    ) -> None:
        told: Told = []

        async def fail() -> None:
            async with running_front({}, tls=tls, failed=told) as (port, front):
                if client is _reset:
                    with socket.create_connection((LOOPBACK, port)) as wire:
                        await until(lambda: front.handshakes)
                        _reset(wire)
                else:
                    await meeting(port, client)
                await until(lambda: told and not front.handshakes)

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(fail())

        assert [(each.event, each.network, each.reason, each.count) for each in told] == [
            (HANDSHAKE, LOOPBACK, reason, 1)
        ]

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
    async def test_an_old_client_is_found_by_its_address(self, tls: ssl.SSLContext) -> None:
        told: Told = []
        async with running_front({}, tls=tls, failed=told) as (port, _front):
            client = f"openssl s_client -tls1 -cipher ALL:@SECLEVEL=0 -connect {LOOPBACK}:{port}"
            await asyncio.to_thread(
                subprocess.run, client.split(), stdin=subprocess.DEVNULL, capture_output=True
            )

        assert [(each.network, each.reason) for each in told] == [(LOOPBACK, "protocol-version")]

    async def test_one_that_takes_too_long_is_told_of(self, tls: ssl.SSLContext) -> None:
        told: Told = []
        async with running_front({}, tls=tls, failed=told) as (port, front):
            leaps = Leaps()
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(b"\x16")
            await until(lambda: front.handshakes)
            leaps.ahead(front.limits.handshake_timeout + 1)
            await until(lambda: told)
            writer.close()

        assert [each.reason for each in told] == ["timeout"]

    async def test_who_only_looks_whether_the_port_is_open_is_not_told_of(
        self, tls: ssl.SSLContext
    ) -> None:
        told: Told = []
        async with running_front({}, tls=tls, failed=told) as (port, front):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            await until(lambda: len(front.handshakes) == 1)
            writer.close()
            await until(lambda: not front.handshakes)

        assert told == []


class TestWhatIsNoHTTP:
    @pytest.mark.parametrize(
        ("sent", "reason"),
        [
            pytest.param(b"\x16\x03\x01\x00\xf0\x01", "tls", id="TLS on the plain port"),
            pytest.param(b"\x00\x01\x02\r\n\r\n", "bad-head", id="garbage"),
            pytest.param(b"GET / HTTP/1.1\r\nno field\r\n\r\n", "bad-head", id="no field"),
            pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", "long-head", id="long field"),
            pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, "long-head", id="long head"),
            pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", "many-fields", id="many fields"),
        ],
    )  # fmt: skip
    async def test_is_told_with_its_network_and_reason(self, sent: bytes, reason: str) -> None:
        told: Told = []
        async with running_front({}, failed=told) as (port, _front):
            await meeting(port, lambda wire: wire.sendall(sent))
            await until(lambda: told)

        assert [(each.event, each.network, each.reason) for each in told] == [
            (NOT_HTTP, LOOPBACK, reason)
        ]

    @pytest.mark.parametrize(("end", "reason"), [(False, "slow-head"), (True, "broken-off")])
    async def test_so_is_a_head_that_does_not_come_to_its_end(self, end: bool, reason: str) -> None:
        told: Told = []
        async with running_front({}, failed=told) as (port, front):
            leaps = Leaps()
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(b"GET / HTTP/1.1\r\n")
            await until(lambda: front.heads.used)
            if end:
                writer.write_eof()
            else:
                leaps.ahead(front.limits.head_timeout + 1)
            await until(lambda: told)
            writer.close()

        assert [(each.event, each.reason) for each in told] == [(NOT_HTTP, reason)]

    async def test_is_a_line_of_the_log_and_no_call(self, upstream: ScriptedUpstream) -> None:
        with logging() as log:
            async with running_bridge(upstream.base_url) as client:
                await client.raw(b"nonsense\r\n\r\n")

        assert log.lines("legacy_call") == []
        (line,) = log.lines(NOT_HTTP)
        assert line.keys() == {"event", "level", "timestamp", "network", "reason", "count"}
        assert (line["network"], line["reason"], line["level"]) == (LOOPBACK, "bad-head", "warning")


async def test_connections_that_are_turned_away_are_told_of() -> None:
    told: Told = []
    async with running_front({}, failed=told, connections_per_address=2) as (port, _front):
        opened = [await asyncio.open_connection(LOOPBACK, port) for _ in range(4)]
        await until(lambda: told)
        await asyncio.gather(opened[0][0].read(), opened[1][0].read())
        for _, writer in opened:
            writer.close()

    assert {(each.event, each.network, each.reason) for each in told} == {
        (REFUSED, LOOPBACK, "address-share")
    }


class TestMany:
    async def test_alike_are_told_of_once_an_interval_with_their_number(self) -> None:
        told: Told = []
        leaps, failed = Leaps(), FailedConnections([told.append])
        for _ in range(5):
            failed.count(NOT_HTTP, "192.0.2.1", "bad-head")
        failed.count(NOT_HTTP, "192.0.2.2", "bad-head")
        failed.count(NOT_HTTP, "192.0.2.1", "tls")
        assert [each.count for each in told] == [1, 1, 1]

        leaps.ahead(INTERVAL + 1)
        await until(lambda: len(told) == 4)

        assert (told[3].network, told[3].reason, told[3].count) == ("192.0.2.1", "bad-head", 4)

    async def test_go_on_being_told_of_only_as_long_as_they_fail(self) -> None:
        told: Told = []
        leaps, failed = Leaps(), FailedConnections([told.append])
        for _ in range(2):
            failed.count(NOT_HTTP, "192.0.2.1", "bad-head")
        for more in (3, 0):
            leaps.ahead(INTERVAL + 1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for _ in range(more):
                failed.count(NOT_HTTP, "192.0.2.1", "bad-head")
        leaps.ahead(INTERVAL + 1)
        failed.close()

        assert [each.count for each in told] == [1, 1, 3]

    async def test_networks_cost_bounded_memory_and_none_is_lost(self) -> None:
        told: Told = []
        failed = FailedConnections([told.append])
        for number in range(20_000):
            network = f"10.{number >> 8}.{number & 255}.1"
            failed.count(HANDSHAKE, network, ("timeout", "reset")[number % 2])
        failed.close()

        assert sum(each.count for each in told) == 20_000
        assert len(told) <= KINDS + 4
        others = [each for each in told if each.network == OTHERS]
        assert {each.reason for each in others} == {"timeout", "reset"}

    async def test_so_many_networks_are_told_apart_in_a_day(self) -> None:
        told: Told = []
        failed = FailedConnections([told.append])
        for start in range(0, KINDS_A_DAY + 300, KINDS - 1):
            for number in range(start, start + KINDS - 1):
                failed.count(NOT_HTTP, f"2001:db8:0:{number:x}::/64", "tls")
            failed.close()  # as an interval that has passed

        networks = {each.network for each in told}
        assert len(networks) == KINDS_A_DAY + 1
        assert OTHERS in networks

    async def test_are_told_to_the_others_where_one_that_is_told_fails(self) -> None:
        told: Told = []

        def failing(_event: ConnectionEvent) -> None:
            raise OSError("hush")

        with structlog.testing.capture_logs() as logs:
            FailedConnections([failing, told.append]).count(NOT_HTTP, "192.0.2.1", "tls")

        assert (len(told), logs[0]["event"], "hush" in str(logs)) == (1, "not_recorded", False)


def test_every_reason_is_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "admin.md").read_text("utf-8")
    told = {code for code, _ in _HANDSHAKES.values()} | {
        *("reset", "timeout", "other", "tls", "bad-head", "long-head", "many-fields", "broken-off"),
        *("slow-head", "no-room", "address-share", "heads", "wrong-token", "paused"),
    }

    assert [code for code in sorted(told) if f"`{code}`" not in documented] == []
    assert f"Beyond {KINDS} networks" in documented
