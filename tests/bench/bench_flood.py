"""What a flood from one address costs three clients of the book who read and write. See README.md.

`python -m tests.bench.bench_flood` makes each attack for a while, and then all at once for
`--seconds`; names of attacks make only those. With `--baseline`, another checkout's bridge bears each
of them as well.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import ssl
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter

import aiohttp
import trustme

from bridge.sandbox.app import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_SECOND_ACCOUNT_ID,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
    SECOND_INVOICE_ID,
)
from tests.bench.reports import say
from tests.support.books import enter
from tests.support.running import LOOPBACK

MODULE = "tests.bench.bench_flood"
HOST = "first.harvestapp.com"
V2_SECONDS = 0.3
"""What the upstream takes for an answer."""
PAUSE = 0.2
"""Seconds between two calls of a client."""
PATIENCE = 35.0
"""Seconds after which a client counts its call as failed: more than a call may take."""
CLIENTS = (
    ("first", "one@example.com", SANDBOX_ACCOUNT_ID, "env:FIRST_TOKEN", 1420),
    ("first", "two@example.com", SANDBOX_ACCOUNT_ID, "env:FIRST_TOKEN", 1421),
    ("second", "one@example.com", SANDBOX_SECOND_ACCOUNT_ID, "env:SECOND_TOKEN", SECOND_INVOICE_ID),
)
CONNECTIONS = 300
"""What the bridge may have at once: few, so that a flood from one process can want them all."""


@dataclass(frozen=True)
class Target:
    """The bridge, as an attacker knows it."""

    port: int
    tls: ssl.SSLContext

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and shake hands."""
        return await asyncio.open_connection(
            LOOPBACK, self.port, ssl=self.tls, server_hostname=HOST
        )


def head(method: str, path: str, *fields: str, authorization: str | None = None) -> bytes:
    """Write a head; by default with a token that nobody else has."""
    authorization = authorization or f"Bearer invented.{random.getrandbits(64):x}"
    lines = (
        f"{method} {path} HTTP/1.1",
        f"Host: {HOST}",
        f"Authorization: {authorization}",
        *fields,
    )
    return "\r\n".join((*lines, "", "")).encode()


async def ask(target: Target, data: bytes, *, seconds: float = 40.0) -> None:
    """Send a request on a connection of its own, and read until it closes or time is up."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await target.connect()
            try:
                writer.write(data)
                await writer.drain()
                while await reader.read(65_536):
                    pass
            finally:
                writer.close()


Attack = Callable[[Target], Awaitable[None]]


async def _long_filters(target: Target) -> None:
    path = "/invoice/1420/messages?updated_since=" + "T" * 8000
    await ask(target, head("GET", path, "Connection: close"))


async def _long_logins(target: Target) -> None:
    pair = b64encode(("e" + "\u0301" * 2900 + ":x").encode()).decode()
    fields = ("Connection: close",)
    await ask(target, head("GET", "/invoice/1420/messages", *fields, authorization=f"Basic {pair}"))


async def _names(target: Target) -> None:
    seed = random.getrandbits(40)
    body = "".join(f"<n{seed:x}{each}/>" for each in range(40_000))
    await ask(target, _post(f"<invoice-message><x>{body}</x></invoice-message>".encode()))


async def _strangers(target: Target) -> None:
    path = f"/invoice/{random.randrange(1000, 2000)}/messages"
    await ask(target, head("GET", path, "Connection: close"))


async def _bodies(target: Target) -> None:
    start = _post(b" " * 1024 * 1000, length=1024 * 1024)
    await ask(target, start, seconds=20)


async def _lingering(target: Target) -> None:
    fields = ("Content-Length: 100000", "Content-Type: text/xml")
    await ask(target, head("POST", "/invoice/1420/messages", *fields, authorization="Basic eA=="))


async def _handshakes(target: Target) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(40):
            reader, writer = await asyncio.open_connection(LOOPBACK, target.port)
            await reader.read()
            writer.close()


def _post(body: bytes, length: int | None = None) -> bytes:
    fields = (
        "Content-Type: text/xml",
        f"Content-Length: {length or len(body)}",
        "Connection: close",
    )
    return head("POST", "/invoice/1420/messages", *fields) + body


@dataclass(frozen=True)
class Kind:
    """An attack, how many at once, and how many new ones a second."""

    attack: Attack
    at_once: int
    a_second: int


ATTACKS: dict[str, Kind] = {
    "none": Kind(_strangers, 0, 1),
    "long filters": Kind(_long_filters, 8, 1000),
    "long logins": Kind(_long_logins, 8, 1000),
    "invented names": Kind(_names, 4, 20),
    "strangers": Kind(_strangers, 100, 1000),
    "slow bodies": Kind(_bodies, 131, 50),
    "lingering": Kind(_lingering, 400, 60),
    "handshakes": Kind(_handshakes, 1000, 300),
}
MIXED = "all at once"


async def flood(target: Target, names: list[str]) -> None:
    """Attack until cancelled: with several kinds, one to all of them at a time, by the dice."""
    kinds = [ATTACKS[name] for name in names]
    while True:
        chosen = random.sample(kinds, random.randint(1, len(kinds)))
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(10 if len(kinds) > 1 else None),
                asyncio.TaskGroup() as group,
            ):
                for kind in chosen:
                    group.create_task(_keep_up(target, kind))


async def _keep_up(target: Target, kind: Kind) -> None:
    under_way: set[asyncio.Task[None]] = set()
    try:
        while True:
            if len(under_way) < kind.at_once:
                task = asyncio.ensure_future(kind.attack(target))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(1 / kind.a_second)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


@dataclass
class Told:
    """What the clients of the book were told."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    resident: int = 0
    """Bytes of the bridge's process, at most."""

    @property
    def failed(self) -> int:
        """How many calls were not 2xx."""
        return sum(count for told, count in self.statuses.items() if not told.startswith("2"))

    def row(self, name: str) -> str:
        """Return the row of a table."""
        p99 = quantiles(self.seconds, n=100)[98] if len(self.seconds) > 1 else float("nan")
        wrong = " ".join(f"{told}×{n}" for told, n in self.statuses.items() if told[0] != "2")
        return (
            f"{name:<28} {len(self.seconds):>6} {self.failed:>7} {median(self.seconds) * 1e3:>8.0f}"
            f" {p99 * 1e3:>8.0f} {self.resident / 1e6:>7.0f}  {wrong}"
        )


TITLE = f"{'':<28} {'calls':>6} {'failed':>7} {'ms, p50':>8} {'p99':>8} {'RSS, MB':>7}"


async def client(port: int, tls: ssl.SSLContext, number: int, told: Told) -> None:
    """Read and write until cancelled, a call after the other, as v1's clients do."""
    subdomain, login, _, _, invoice = CLIENTS[number]
    headers = {
        "Host": f"{subdomain}.harvestapp.com",
        "Authorization": aiohttp.encode_basic_auth(login, "password"),
        "Content-Type": "text/xml",
    }
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    path = f"https://{HOST}:{port}/invoice/{invoice}/messages"
    connector = aiohttp.TCPConnector(ssl=tls, resolver=_Here(), limit=1)
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=connector
    ) as session:
        count = 0
        while True:
            count += 1
            text = (
                f"<invoice-message><body>{number}-{count}</body>"
                "<recipients>jane@doe.org</recipients></invoice-message>"
            )
            method, body = ("POST", text.encode()) if count % 5 == 0 else ("GET", None)
            before = perf_counter()
            try:
                async with session.request(method, path, data=body) as answer:
                    await answer.read()
                    status = str(answer.status)
            except (aiohttp.ClientError, OSError) as error:
                status = type(error).__name__
            told.seconds.append(perf_counter() - before)
            told.statuses[status] += 1
            await asyncio.sleep(PAUSE)


class _Here(aiohttp.abc.AbstractResolver):
    """Finds every name on this machine."""

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: int = 0,  # noqa: ARG002
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            aiohttp.abc.ResolveResult(
                hostname=host, host=LOOPBACK, port=port, family=2, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


async def listening(process: asyncio.subprocess.Process, what: str) -> int:
    """Read its log until it says where it listens, and on to its end in the background."""
    assert process.stderr
    async for line in process.stderr:
        with suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == "listening" and event.get("what") == what:
                passing = asyncio.create_task(_pass_over(process.stderr))
                _BACKGROUND.add(passing)
                passing.add_done_callback(_BACKGROUND.discard)
                return int(event["port"])
    raise RuntimeError(f"{what} has ended")


_BACKGROUND: set[asyncio.Task[None]] = set()


async def _pass_over(log: asyncio.StreamReader) -> None:
    with suppress(asyncio.CancelledError):
        while await log.read(65_536):
            pass


@asynccontextmanager
async def process(
    what: str, *arguments: str, home: Path, environment: dict[str, str]
) -> AsyncIterator[tuple[int, int]]:
    """Run a command of the bridge's in the checkout `home`; yield its port and process id."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge",
        *arguments,
        cwd=home,
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield await listening(started, what), started.pid
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def bear(names: list[str], seconds: float, home: Path, directory: Path) -> Told:
    """Let a bridge bear attacks for a while, and return what its clients were told."""
    authority = trustme.CA()
    pair = authority.issue_cert("*.harvestapp.com")
    certificate, key, bundle = (directory / name for name in ("chain.pem", "key.pem", "ca.pem"))
    for path in (certificate, key, bundle, directory / "book.toml", directory / "journal.sqlite"):
        path.unlink(missing_ok=True)
    key.touch(0o600)
    pair.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(each.bytes() for each in pair.cert_chain_pems))
    authority.cert_pem.write_to_path(bundle)
    for subdomain, login, account_id, token, _ in CLIENTS:
        enter(directory / "book.toml", subdomain, login, "password", account_id, token)
    tls = ssl.create_default_context(cafile=bundle)
    tokens = {"FIRST_TOKEN": SANDBOX_TOKEN, "SECOND_TOKEN": SANDBOX_SECOND_TOKEN}
    # Not a flag: a baseline may not know it.
    tokens["HARVEST_BRIDGE_DATABASE"] = str(directory / "log.sqlite")
    here = Path(__file__).parents[2]
    rules = directory / "faults.json"
    rules.write_text(json.dumps([{"fault": "delay", "seconds": V2_SECONDS}]))
    async with (
        process(
            "sandbox", "sandbox", "--port=0", f"--faults={rules}", home=here, environment={}
        ) as (v2, _),
        process(
            "bridge",
            "serve",
            "--auth=book,token-as-password,bearer",
            f"--book={directory / 'book.toml'}",
            f"--account-id={SANDBOX_ACCOUNT_ID}",
            "--contact=tests@example.com",
            f"--upstream=http://{LOOPBACK}:{v2}/v2",
            f"--journal={directory / 'journal.sqlite'}",
            f"--tls-certificate={certificate}",
            f"--tls-key={key}",
            f"--connections={CONNECTIONS}",
            "--port=0",
            "--admin-port=0",
            home=home,
            environment=tokens,
        ) as (port, pid),
    ):
        told = Told()
        attackers = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE, "--attack", str(port), str(bundle), *names, cwd=here
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(client(port, tls, number, told))
                    for number in range(len(CLIENTS))
                ]
                end = monotonic() + seconds
                while monotonic() < end:
                    told.resident = max(told.resident, _resident(pid))
                    await asyncio.sleep(0.5)
                for task in tasks:
                    task.cancel()
        finally:
            attackers.kill()
            await attackers.wait()
    return told


def _resident(pid: int) -> int:
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return 0


async def main(arguments: argparse.Namespace) -> None:
    """Measure, and print a table."""
    homes = {"this": Path(__file__).parents[2]}
    if arguments.baseline:
        homes["baseline"] = arguments.baseline
    alone = arguments.names or list(ATTACKS)
    say(f"Three clients of the book, {arguments.each:.0f} s an attack.", TITLE)
    with TemporaryDirectory() as directory:
        for name in alone:
            for which, home in homes.items():
                told = await bear([name], arguments.each, home, Path(directory))
                say(told.row(name if which == "this" else f"  {which}"))
        if arguments.seconds:
            every = [name for name in ATTACKS if name != "none"]
            told = await bear(every, arguments.seconds, homes["this"], Path(directory))
            say(told.row(f"{MIXED}, {arguments.seconds:.0f} s"))


async def attack(port: str, bundle: str, names: list[str]) -> None:
    """Be the attacker."""
    tls = ssl.create_default_context(cafile=bundle)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    await flood(Target(int(port), tls), names)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attack"]:
        asyncio.run(attack(sys.argv[2], sys.argv[3], sys.argv[4:]))
    else:
        parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
        parser.add_argument("names", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
        parser.add_argument("--each", type=float, default=20.0, help="seconds of each attack alone")
        parser.add_argument("--seconds", type=float, default=600.0, help="seconds of all at once")
        parser.add_argument("--baseline", type=Path, help="another checkout, to bear each as well")
        asyncio.run(main(parser.parse_args()))
