"""Sockets that a service manager hands over, and what it is told, by a process of its own."""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import structlog
import trustme

from bridge.server import service_manager
from bridge.server.service_manager import Handed, ServiceManager, take_sockets
from bridge.server.serving import CannotListen, accepting
from bridge.settings import PREFIX
from tests.support.certificates import put_in_place
from tests.support.legacy import LegacyClient
from tests.support.running import LOOPBACK

CLIENTS, RESTARTS = 10, 2

PATIENCE = 60
"""Seconds until a process counts as hanging."""

ACTIVATE = """
import fcntl, os, sys
descriptors = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[1].split(",")]
for position, each in enumerate(descriptors):
    os.dup2(each, 3 + position)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(descriptors)))
os.execv(sys.executable, [sys.executable, "-m", "bridge", *sys.argv[2:]])
"""
"""Hands descriptors over as systemd does, in the process that becomes the bridge."""

CALL = b"GET /invoice/1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def serve(tmp_path: Path) -> tuple[str, ...]:
    return (
        "serve", "--account-id=1000", "--auth=bearer", "--contact=ops@acme.test",
        f"--upstream=http://{LOOPBACK}:1/v2", f"--journal={tmp_path}/journal.sqlite",
        f"--database={tmp_path}/log.sqlite", "--port=0", "--admin-port=0",
    )  # fmt: skip


@pytest.fixture
def manager() -> Iterator[tuple[str, socket.socket]]:
    """Return the address of somebody who listens as systemd does, and the socket."""
    address = f"@harvest-bridge-{uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}")
        listener.settimeout(PATIENCE)
        yield address, listener


def listener(address: str = LOOPBACK) -> socket.socket:
    return socket.create_server((address, 0))


@asynccontextmanager
async def started(*command: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    descriptors = [int(each) for each in command[3].split(",")] if command[1] == "-c" else []
    process = await asyncio.create_subprocess_exec(
        *command, env={**kept, **environ}, stderr=asyncio.subprocess.PIPE, pass_fds=descriptors
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def activating(sockets: Sequence[socket.socket], *command: str) -> tuple[str, ...]:
    numbers = ",".join(str(each.fileno()) for each in sockets)
    return sys.executable, "-c", ACTIVATE, numbers, *command


async def listening(process: asyncio.subprocess.Process, what: str) -> int:
    """Read the log up to the line that says where a side listens."""
    assert process.stderr is not None
    async for line in process.stderr:
        told = json.loads(line)
        if (told["event"], told.get("what")) == ("listening", what):
            port: int = told["port"]
            return port
    raise AssertionError("it ended before it listened")


async def stopped(process: asyncio.subprocess.Process) -> int | None:
    process.terminate()
    await process.communicate()
    return process.returncode


class TestASocketThatIsHandedOver:
    async def test_is_the_one_that_calls_come_by(self, serve: tuple[str, ...]) -> None:
        with listener() as handed:
            command = activating([handed], *serve)
            async with started(*command, LISTEN_FDNAMES="legacy") as process:
                port = await listening(process, "bridge")
                async with LegacyClient(LOOPBACK, port) as client:
                    answer = await client.get("/invoice/1/messages", authorization=None)

                assert port == handed.getsockname()[1]
                assert answer.status == 401
                assert await stopped(process) == 0

    async def test_keeps_who_comes_between_two_processes(self, serve: tuple[str, ...]) -> None:
        with listener() as handed:
            command = activating([handed], *serve)
            async with started(*command, LISTEN_FDNAMES="legacy") as process:
                await listening(process, "bridge")
                assert await stopped(process) == 0
            reader, writer = await asyncio.open_connection(*handed.getsockname())
            writer.write(CALL)
            async with started(*command, LISTEN_FDNAMES="legacy"):
                assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.close()

    async def test_says_who_may_see_the_admin_side(self, serve: tuple[str, ...]) -> None:
        """Not `admin_host`, which is the loopback."""
        with listener("0.0.0.0") as handed:
            command = activating([handed], *serve)
            async with started(*command, LISTEN_FDNAMES="admin") as process:
                port = await listening(process, "admin")
                async with aiohttp.ClientSession() as client:
                    answer = await client.get(f"http://{LOOPBACK}:{port}/metrics")

            assert (port, answer.status) == (handed.getsockname()[1], 403)

    async def test_may_be_one_of_several_of_a_side(self, serve: tuple[str, ...]) -> None:
        with listener() as one, listener() as other, listener() as admin:
            command = activating([one, admin, other], *serve)
            async with started(*command, LISTEN_FDNAMES="legacy:admin:legacy") as process:
                await listening(process, "bridge")
                for each in (one, other):
                    async with LegacyClient(*each.getsockname()) as client:
                        answer = await client.get("/invoice/1/messages", authorization=None)
                        assert answer.status == 401

    async def test_that_is_wrong_is_told_in_one_line(self, serve: tuple[str, ...]) -> None:
        with listener() as handed:
            command = activating([handed], *serve)
            async with started(*command, LISTEN_FDNAMES="harvest-bridge.socket") as process:
                _, said = await process.communicate()

        assert process.returncode == 2
        assert said.startswith(b"harvest-bridge: a socket was handed over that has the name ")
        assert said.count(b"\n") == 1

    @pytest.mark.skipif(
        shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is missing"
    )
    async def test_may_come_of_systemd(self, serve: tuple[str, ...]) -> None:
        with listener() as free:
            port = free.getsockname()[1]
        command = (
            "systemd-socket-activate", f"--listen={LOOPBACK}:{port}", "--fdname=legacy",
            sys.executable, "-m", "bridge", *serve,
        )  # fmt: skip
        async with started(*command) as process:
            assert process.stderr is not None
            await process.stderr.readline()  # that it listens
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(CALL)
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.close()


class TestTakingSockets:
    def test_what_is_meant_for_another_process_is_left(self) -> None:
        environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "legacy"}

        assert take_sockets(environ) == Handed()

    def test_without_a_service_manager_there_are_none(self) -> None:
        assert take_sockets({}) == Handed()

    def test_a_count_that_is_none_is_refused(self) -> None:
        with pytest.raises(CannotListen, match="LISTEN_FDS: must be a number"):
            take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "two"})

    @pytest.mark.parametrize(
        ("make", "name", "told"),
        [
            (listener, "", "that has no name: name each legacy or admin"),
            (listener, "x.socket", "that has the name 'x.socket': name each legacy or admin"),
            (socket.socket, "legacy", "does not listen for TCP connections"),
            (lambda: socket.socket(socket.AF_UNIX), "admin", "does not listen for TCP connections"),
        ],
        ids=["no-name", "another-name", "not-listening", "no-tcp"],
    )
    def test_one_that_calls_cannot_come_by_is_refused(
        self,
        monkeypatch: pytest.MonkeyPatch,
        make: Callable[[], socket.socket],
        name: str,
        told: str,
    ) -> None:
        with make() as handed:
            monkeypatch.setattr(service_manager, "_FIRST", number := os.dup(handed.fileno()))
            environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": name}
            with pytest.raises(CannotListen, match=f"socket .*was handed over.*{told}"):
                take_sockets(environ)
        with suppress(OSError):  # it is closed, unless its name alone was wrong
            os.close(number)

    async def test_connections_are_accepted_by_hand_on_them_too(self) -> None:
        """As it is done where a handshake of TLS comes first."""
        accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()

        def take(wire: socket.socket, _address: str) -> None:
            accepted.set_result(wire)

        with listener() as handed:
            address = handed.getsockname()
            async with accepting(asyncio.Protocol, "", 0, take, [handed.dup()]) as (port, _):
                _, writer = await asyncio.open_connection(*address)
                with await accepted as wire:
                    assert wire.getpeername() == writer.get_extra_info("sockname")
                writer.close()

        assert port == address[1]


class TestAServiceManager:
    async def test_is_told_of_start_reload_and_end(
        self, serve: tuple[str, ...], manager: tuple[str, socket.socket]
    ) -> None:
        address, told = manager
        async with started(
            sys.executable, "-m", "bridge", *serve, NOTIFY_SOCKET=address
        ) as process:
            assert await asyncio.to_thread(told.recv, 4096) == b"READY=1"
            process.send_signal(signal.SIGHUP)
            reloading = (await asyncio.to_thread(told.recv, 4096)).decode().split("\n")
            assert reloading[0] == "RELOADING=1"
            assert reloading[1].removeprefix("MONOTONIC_USEC=").isdecimal()
            assert await asyncio.to_thread(told.recv, 4096) == b"READY=1"
            process.terminate()
            stopping = b"STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000"
            assert await asyncio.to_thread(told.recv, 4096) == stopping

    async def test_that_watches_is_told_again_and_again(
        self, manager: tuple[str, socket.socket]
    ) -> None:
        address, told = manager
        async with ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000"}).watching():
            for _ in range(3):
                assert await asyncio.to_thread(told.recv, 4096) == b"WATCHDOG=1"

    async def test_that_watches_another_process_is_not(
        self, manager: tuple[str, socket.socket]
    ) -> None:
        address, told = manager
        watched = {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}
        service = ServiceManager({"NOTIFY_SOCKET": address, **watched})
        async with service.watching():
            await asyncio.sleep(0)
            service.ready()

            assert told.recv(4096) == b"READY=1"

    def test_may_listen_at_a_path(self, tmp_path: Path) -> None:
        path = tmp_path / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(path))
            ServiceManager({"NOTIFY_SOCKET": str(path)}).ready()

            assert told.recv(4096) == b"READY=1"

    def test_that_is_gone_is_a_warning_and_no_more(self, tmp_path: Path) -> None:
        with structlog.testing.capture_logs() as logs:
            ServiceManager({"NOTIFY_SOCKET": f"{tmp_path}/gone"}).ready()

        assert [line["event"] for line in logs] == ["service_manager_not_told"]


class TestARestart:
    """systemd keeps the socket, stops one process, and starts the next."""

    @pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
    async def test_costs_no_call(
        self, serve: tuple[str, ...], tmp_path: Path, is_tls: bool
    ) -> None:
        context = None
        settings: tuple[str, ...] = ()
        if is_tls:
            authority = trustme.CA()
            certificate, key = put_in_place(authority.issue_cert("localhost"), tmp_path)
            settings = (f"--tls-certificate={certificate}", f"--tls-key={key}")
            context = ssl.create_default_context()
            authority.configure_trust(context)
        answers: list[bytes] = []

        async def keep_calling(port: int) -> None:
            while True:
                reader, writer = await asyncio.open_connection(
                    LOOPBACK, port, ssl=context, server_hostname="localhost" if is_tls else None
                )
                try:
                    writer.write(CALL)
                    answers.append(await reader.read())
                finally:
                    writer.close()
                    await writer.wait_closed()

        async def answered(more: int) -> None:
            wanted = len(answers) + more
            while len(answers) < wanted and not any(  # noqa: ASYNC110 - a list has no event
                each.done() for each in calling
            ):
                await asyncio.sleep(0.01)

        with socket.create_server((LOOPBACK, 0), backlog=100) as handed:
            command = activating([handed], *serve, *settings)
            calling = [
                asyncio.create_task(keep_calling(handed.getsockname()[1])) for _ in range(CLIENTS)
            ]
            for _ in range(RESTARTS):
                async with started(*command, LISTEN_FDNAMES="legacy") as process:
                    await answered(5 * CLIENTS)
                    assert await stopped(process) == 0
            async with started(*command, LISTEN_FDNAMES="legacy"):
                await answered(5 * CLIENTS)
                failed = [each.exception() for each in calling if each.done()]
                for each in calling:
                    each.cancel()
                await asyncio.gather(*calling, return_exceptions=True)

        assert failed == []
        assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 401 Unauthorized"}
