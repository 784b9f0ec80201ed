"""The TLS fronts of `deploy/`, each run as it is before bridges of a test.

A deployed file has addresses and paths of an operator's; what stands here puts a test's in their
place, and nothing else.
"""

import asyncio
import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from tests.support.gateways import free_port
from tests.support.logged import Logged, logging
from tests.support.running import LOOPBACK, running_service
from tests.support.storm_sandbox import Moments, WatchedSandbox, running_watched_sandbox

DEPLOYED = Path(__file__).parents[2] / "deploy"


class Backend(NamedTuple):
    """One bridge, as a front knows it."""

    port: int
    admin_port: int
    host: str = LOOPBACK

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"


class Certificate(NamedTuple):
    """What a front shows to its clients, and whom these have to trust for it."""

    chain: Path
    key: Path
    both: Path
    authority: Path


@dataclass(frozen=True)
class TlsFront:
    """A front that runs."""

    name: str
    port: int
    certificate: Certificate
    folder: Path

    @property
    def logs(self) -> str:
        """All that it has written so far."""
        files = [*self.folder.glob("*.log"), self.folder / "output"]
        return "".join(each.read_text(errors="replace") for each in files if each.exists())

    def trust(self) -> ssl.SSLContext:
        """What a client needs to call it."""
        return ssl.create_default_context(cafile=str(self.certificate.authority))

    @asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a bare connection, behind TLS."""
        reader, writer = await asyncio.open_connection(
            LOOPBACK, self.port, ssl=self.trust(), server_hostname=NAME
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def raw(self, *pieces: bytes) -> bytes:
        """Send pieces, one segment each, and return all that comes until it closes."""
        async with self.connection() as (reader, writer):
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            answer = b""
            # Who closes without reading on resets: what had come before has been heard.
            with suppress(ConnectionError, ssl.SSLError):
                while data := await reader.read(2**16):
                    answer += data
            return answer


HOSTS = (LOOPBACK, "127.0.0.2")
"""Where bridges listen, which have one admin port: so each has a machine of its own."""

NAME = "acme.harvestapp.com"
"""Whom clients call."""


def certificate(folder: Path) -> Certificate:
    """Issue one for `NAME`, from an authority of the test's own."""
    authority = trustme.CA()
    issued = authority.issue_cert(NAME, "first.harvestapp.com", "second.harvestapp.com")
    made = Certificate(*(folder / each for each in ("crt.pem", "key.pem", "both.pem", "ca.pem")))
    issued.cert_chain_pems[0].write_to_path(made.chain)
    issued.private_key_pem.write_to_path(made.key)
    issued.private_key_and_cert_chain_pem.write_to_path(made.both)
    authority.cert_pem.write_to_path(made.authority)
    return made


Command = tuple[Sequence[str | Path], Mapping[str, str]]
"""What to run, and its variables."""

_Made = Callable[[Path, int, Certificate, Sequence[Backend]], Command]


def _put(text: str, values: Mapping[str, str]) -> str:
    for deployed, ours in values.items():
        assert deployed in text, f"{deployed} does not stand in the deployed file any more"
        text = text.replace(deployed, ours)
    return text


def _haproxy(folder: Path, port: int, shown: Certificate, bridges: Sequence[Backend]) -> Command:
    text = (DEPLOYED / "haproxy" / "haproxy.cfg").read_text()
    if os.geteuid() != 0:  # only root can give itself up
        text = re.sub(r"(?m)^    (chroot|user|group) .*\n", "", text)
    if len(bridges) == 1:
        text = re.sub(r"(?m)^.*(BRIDGE|ADMIN)_2\".*\n", "", text)
    values = {"FRONT": f"{LOOPBACK}:{port}", "CERTIFICATE": str(shown.both), "LOG": "fd@1"}
    for number, bridge in enumerate(bridges, 1):
        values[f"BRIDGE_{number}"] = bridge.place
        values[f"ADMIN_{number}"] = f"{bridge.host}:{bridge.admin_port}"
    file = folder / "haproxy.cfg"
    file.write_text(text)
    return ["haproxy", "-db", "-f", file], values


def _nginx(folder: Path, port: int, shown: Certificate, bridges: Sequence[Backend]) -> Command:
    servers = "    server 192.0.2.{}:8080 max_fails=0;\n"
    values = {
        "    listen [::]:443 ssl default_server;\n": "",
        "listen 443 ": f"listen {LOOPBACK}:{port} ",
        servers.format(11) + servers.format(12): "".join(
            f"    server {bridge.place} max_fails=0;\n" for bridge in bridges
        ),
        "/etc/nginx/harvest-bridge.crt": str(shown.chain),
        "/etc/nginx/harvest-bridge.key": str(shown.key),
        "/var/log/nginx/": f"{folder}/",
    }
    site, main = folder / "site.conf", folder / "nginx.conf"
    site.write_text(_put((DEPLOYED / "nginx" / "harvest-bridge.conf").read_text(), values))
    # What a system's own nginx.conf has around it.
    main.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/main.log;\n"
        f"events {{ }}\nhttp {{ {_temporary(folder)} include {site}; }}\n"
    )
    return ["nginx", "-p", folder, "-c", main, "-e", folder / "start.log"], {}


def _temporary(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def _caddy(folder: Path, port: int, shown: Certificate, bridges: Sequence[Backend]) -> Command:
    values = {
        "ADDRESS": LOOPBACK,
        "PORT": str(port),
        "CADDY_ADMIN": "off",
        "CERTIFICATE": str(shown.chain),
        "CERTIFICATE_KEY": str(shown.key),
        "CERTIFICATE_NAME": NAME,
        "BRIDGES": " ".join(bridge.place for bridge in bridges),
        "ADMIN_PORT": str(bridges[0].admin_port),
        "HOME": str(folder),  # where it would keep what it gets by ACME
    }
    deployed = DEPLOYED / "caddy" / "Caddyfile"
    return ["caddy", "run", "--config", deployed, "--adapter", "caddyfile"], values


_MADE: Mapping[str, _Made] = {"haproxy": _haproxy, "nginx": _nginx, "caddy": _caddy}
FRONTS = tuple(_MADE)

_CHECK: Mapping[str, Sequence[str]] = {
    "haproxy": ("-c",),
    "nginx": ("-t",),
    "caddy": (),
}
"""What makes each look at its file only; `caddy` has a command for it."""


def need(name: str) -> None:
    """Skip the test where the front is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")


def _environment(values: Mapping[str, str]) -> dict[str, str]:
    known = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return {**known, **values}


async def check(name: str, folder: Path, bridges: Sequence[Backend]) -> tuple[int | None, str]:
    """Have a front's own tool look at its file; the exit status and what it says."""
    need(name)
    command, values = _MADE[name](folder, free_port(), certificate(folder), bridges)
    if name == "caddy":
        command = ["validate" if each == "run" else each for each in command]
    process = await asyncio.create_subprocess_exec(
        *command,
        *_CHECK[name],
        env=_environment(values),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@dataclass(frozen=True)
class Fronted:
    """Two bridges in this process, a front before them, and what v2 and the bridges saw."""

    front: TlsFront
    v2: WatchedSandbox
    log: Logged


@asynccontextmanager
async def fronted_bridges(name: str, folder: Path, **settings: Any) -> AsyncIterator[Fronted]:
    """Run both bridges and a front; callers' tokens are the sandbox's."""
    need(name)
    settings = {"account_id": 1000, "trusted_proxies": LOOPBACK, **settings}
    async with AsyncExitStack() as stack:
        v2 = await stack.enter_async_context(running_watched_sandbox(Moments()))
        log = stack.enter_context(logging())
        places: list[Backend] = []
        for host in HOSTS:
            admin_port = places[0].admin_port if places else 0
            own = {**settings, "host": host, "admin_host": host, "admin_port": admin_port}
            running = running_service(v2.base_url, **own)
            bridge, _ = await stack.enter_async_context(running)
            places.append(Backend(bridge.port, bridge.admin_port, host))
        front = await stack.enter_async_context(running_tls_front(name, folder, places))
        yield Fronted(front, v2, log)


@asynccontextmanager
async def running_tls_front(
    name: str, folder: Path, bridges: Sequence[Backend]
) -> AsyncIterator[TlsFront]:
    """Run a front before bridges until the end of the block."""
    need(name)
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    front = TlsFront(name, free_port(), certificate(folder), folder)
    command, values = _MADE[name](folder, front.port, front.certificate, bridges)
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env=_environment(values), stdout=output, stderr=output
        )
    try:
        await _listening(front, process)
        yield front
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _listening(front: TlsFront, process: asyncio.subprocess.Process) -> None:
    while process.returncode is None:
        with suppress(OSError):
            async with front.connection():
                return
        await asyncio.sleep(0.01)  # nobody tells when
    raise AssertionError(front.logs)
