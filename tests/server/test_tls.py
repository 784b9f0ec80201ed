"""TLS as clients meet it: a private CA, names by SNI, and certificates that are renewed."""

import asyncio
import os
import shutil
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from bridge.server import tls
from bridge.server.tls import CertificateReloader, UnusableCertificate, server_context
from tests.support.clocks import until
from tests.support.fronts import running_front
from tests.support.kubernetes import SecretVolume
from tests.support.logged import logging
from tests.support.running import LOOPBACK, running_service

NAMES = ("*.harvestapp.com", "harvestapp.com", "localhost")
NOW = datetime.now(UTC)
SHORT = 0.05

REQUESTS = """
import socket, sys
import requests

url, port, authority = sys.argv[1:]
look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, _port, *rest, **more: look_up("127.0.0.1", port, *rest, **more)
session = requests.Session()
session.trust_env = False
print(session.get(url, verify=authority, timeout=10).text)
"""
"""Python's requests, which finds every name at the loopback address."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key on disk."""

    certificate: Path
    key: Path

    @property
    def files(self) -> tuple[Path, Path]:
        return self.certificate, self.key

    def write(self, issued: trustme.LeafCert) -> None:
        """Put `issued` in the place of what was there, as tools that renew do: by renaming."""
        _replace(self.certificate, b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        _replace(self.key, issued.private_key_pem.bytes())


def _replace(file: Path, data: bytes) -> None:
    fresh = file.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_bytes(data)
    fresh.replace(file)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    """The private CA's own certificate, for clients to trust."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    return file


@pytest.fixture
def pair(authority: trustme.CA, tmp_path: Path) -> Pair:
    pair = Pair(tmp_path / "server.pem", tmp_path / "server.key")
    pair.write(authority.issue_cert(*NAMES))
    return pair


def issue(authority: trustme.CA, days: int, *, age: int = 90) -> trustme.LeafCert:
    """Issue a certificate that ends in so many days from now, and is so many days old."""
    return authority.issue_cert(
        *NAMES, not_before=NOW - timedelta(days=age), not_after=NOW + timedelta(days=days, hours=1)
    )


def day(days: int) -> str:
    """The day of the end of what `issue` issues."""
    return f"{NOW + timedelta(days=days, hours=1):%Y-%m-%d}"


@asynccontextmanager
async def running(
    context: ssl.SSLContext | Callable[[], ssl.SSLContext], **limits: Any
) -> AsyncIterator[int]:
    """Serve what name was asked for, and yield the port."""
    async with running_front({"/": named}, tls=context, **limits) as (port, _front):
        yield port


async def named(request: web.BaseRequest) -> web.Response:
    return web.Response(text=f"{request.scheme} {request.host.partition(':')[0]}")


async def shown(port: int, bundle: Path, name: str = "acme.harvestapp.com") -> int:
    """Make a handshake that asks for `name`, and return the certificate's serial number.

    Raises:
        ssl.SSLCertVerificationError: the client does not accept the certificate.
    """
    context = ssl.create_default_context(cafile=bundle)
    _, writer = await asyncio.open_connection(LOOPBACK, port, ssl=context, server_hostname=name)
    serial = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    await writer.wait_closed()
    return int(serial, 16)


async def run(*command: str | Path) -> tuple[int | None, str]:
    """Run a client and return its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def curl(url: str, port: int, bundle: Path, *options: str) -> tuple[int | None, str]:
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed")
    resolve = f"*:{port}:{LOOPBACK}"
    return await run(found, "-sS", "--cacert", bundle, "--resolve", resolve, *options, url)


class TestClients:
    @pytest.mark.parametrize("name", ["acme.harvestapp.com", "other.harvestapp.com", "localhost"])
    async def test_curl_reaches_every_subdomain_by_its_name(
        self, pair: Pair, bundle: Path, name: str
    ) -> None:
        async with running(server_context([pair.files])) as port:
            status, printed = await curl(f"https://{name}:{port}/", port, bundle)

        assert (status, printed) == (0, f"https {name}")

    @pytest.mark.parametrize("name", ["acme.harvestapp.com", "other.harvestapp.com"])
    async def test_requests_reaches_every_subdomain_by_its_name(
        self, pair: Pair, bundle: Path, name: str
    ) -> None:
        async with running(server_context([pair.files])) as port:
            status, printed = await run(
                sys.executable, "-c", REQUESTS, f"https://{name}/", str(port), bundle
            )

        assert (status, printed) == (0, f"https {name}\n")

    async def test_a_name_that_is_not_in_the_certificate_is_for_clients_to_refuse(
        self, pair: Pair, bundle: Path
    ) -> None:
        async with running(server_context([pair.files])) as port:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await shown(port, bundle, "acme.example.com")

    async def test_who_does_not_trust_the_authority_does_not_connect(
        self, pair: Pair, tmp_path: Path
    ) -> None:
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        async with running(server_context([pair.files])) as port:
            status, printed = await curl(f"https://localhost:{port}/", port, other)

        assert status == 60, printed

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_tls_1_2_and_1_3_are_spoken_with_http_1_1_above(
        self, pair: Pair, bundle: Path, version: ssl.TLSVersion
    ) -> None:
        context = ssl.create_default_context(cafile=bundle)
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with running(server_context([pair.files])) as port:
            _, writer = await asyncio.open_connection(
                LOOPBACK, port, ssl=context, server_hostname="localhost"
            )
            tls = writer.get_extra_info("ssl_object")
            assert tls.version() == version.name.replace("_", ".")
            assert tls.selected_alpn_protocol() == "http/1.1"
            assert tls.compression() is None
            writer.close()
            await writer.wait_closed()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_the_log_says_by_which_version_a_call_came(
        self, pair: Pair, bundle: Path, version: ssl.TLSVersion
    ) -> None:
        context = ssl.create_default_context(cafile=bundle)
        context.minimum_version = context.maximum_version = version
        files = {"tls_certificate": pair.certificate, "tls_key": pair.key, "account_id": 1}
        with logging() as log:
            async with running_service("http://127.0.0.1:1/v2", **files) as (service, _):
                reader, writer = await asyncio.open_connection(
                    LOOPBACK, service.port, ssl=context, server_hostname="localhost"
                )
                writer.write(b"GET /people HTTP/1.0\r\n\r\n")
                assert b" 401 " in await reader.read()
                writer.close()
                await writer.wait_closed()

        (line,) = log.lines("legacy_call")
        assert (line["tls"], line["http"]) == (version.name.replace("_", "."), "1.0")

    async def test_tls_1_1_is_not(self, pair: Pair, bundle: Path) -> None:
        assert server_context([pair.files]).minimum_version == ssl.TLSVersion.TLSv1_2
        async with running(server_context([pair.files])) as port:
            status, _ = await curl(
                f"https://localhost:{port}/", port, bundle, "--tls-max", "1.1", "--tlsv1.0",
                "--ciphers", "DEFAULT@SECLEVEL=0",
            )  # fmt: skip

        assert status == 35

    @pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n"])
    async def test_a_handshake_that_does_not_end_is_cut_off(self, pair: Pair, sent: bytes) -> None:
        context = server_context([pair.files])
        async with running(context, handshake_timeout=SHORT) as port:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(sent)

            assert b"HTTP" not in await reader.read()

            writer.close()
            await writer.wait_closed()

    async def test_handshakes_are_counted_and_the_oldest_makes_room(
        self, pair: Pair, bundle: Path
    ) -> None:
        tls = server_context([pair.files])
        async with running_front({"/": named}, tls=tls, connections=3) as (port, front):
            silent = [await asyncio.open_connection(LOOPBACK, port) for _ in range(3)]
            await until(lambda: len(front.handshakes) == 3)
            assert front.open == 3

            await shown(port, bundle, "acme.harvestapp.com")

            assert await silent[0][0].read() == b""
            for _, writer in silent:
                writer.close()
            await until(lambda: front.open == 0)

    async def test_a_burst_of_handshakes_is_held_to_the_limit_and_forgotten(
        self, pair: Pair
    ) -> None:
        tls = server_context([pair.files])
        async with running_front({"/": named}, tls=tls, connections=20) as (port, front):
            for _ in range(3):
                burst = await asyncio.gather(
                    *(asyncio.open_connection(LOOPBACK, port) for _ in range(100))
                )
                await until(lambda: front.open == 20)
                for _, writer in burst:
                    writer.close()
                await until(lambda: front.open == 0)

            assert front.handshakes == {}

    async def test_handshakes_have_the_share_of_their_address(self, pair: Pair) -> None:
        tls = server_context([pair.files])
        async with running_front({"/": named}, tls=tls, connections_per_address=2) as (port, front):
            silent = [await asyncio.open_connection(LOOPBACK, port) for _ in range(3)]

            assert await silent[0][0].read() == b""
            assert len(front.handshakes) == front.open == 2
            for _, writer in silent:
                writer.close()
            await until(lambda: front.open == 0)


Spoil = Callable[[Pair, trustme.CA], object]


def _other_key(pair: Pair, authority: trustme.CA) -> None:
    other = authority.issue_cert("localhost")
    pair.key.write_bytes(other.private_key_pem.bytes())


def _other_kind_of_key(pair: Pair, authority: trustme.CA) -> None:
    other = authority.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    pair.key.write_bytes(other.private_key_pem.bytes())


def _swap(pair: Pair, _authority: trustme.CA) -> None:
    """With the modes that are right for what was there."""
    certificate = pair.certificate.read_bytes()
    pair.certificate.write_bytes(pair.key.read_bytes())
    pair.key.write_bytes(certificate)
    pair.key.chmod(0o644)


def _encrypt(pair: Pair, _authority: trustme.CA) -> None:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )


MISTAKES = [
    pytest.param(lambda pair, _: pair.certificate.unlink(), "{pair.certificate}: No such file or directory", id="no certificate"),
    pytest.param(lambda pair, _: pair.key.unlink(), "{pair.key}: No such file or directory", id="no key"),
    pytest.param(lambda pair, _: pair.certificate.write_text("garbage"), "{pair.certificate}: holds no certificate that can be used (PEM)", id="garbage for a certificate"),
    pytest.param(lambda pair, _: pair.certificate.write_text(""), "{pair.certificate}: holds no certificate that can be used (PEM)", id="an empty certificate"),
    pytest.param(lambda pair, _: pair.key.write_text("garbage"), "{pair.key}: holds no private key that can be used (PEM)", id="garbage for a key"),
    pytest.param(lambda pair, _: pair.key.write_bytes(pair.certificate.read_bytes()), "{pair.key}: holds a certificate, not a private key: are the two swapped?", id="the certificate for a key"),
    pytest.param(_swap, "{pair.key}: holds a certificate, not a private key: are the two swapped?", id="the two swapped"),
    pytest.param(lambda pair, _: pair.certificate.write_bytes(pair.key.read_bytes()), "{pair.certificate}: holds a private key, not a certificate: are the two swapped?", id="the key for a certificate"),
    pytest.param(_other_kind_of_key, "{pair.key}: the private key is not that of {pair.certificate}", id="another's key of another type"),
    pytest.param(_other_key, "{pair.key}: the private key is not that of {pair.certificate}", id="another's key"),
    pytest.param(_encrypt, "{pair.key}: the private key is encrypted: decrypt it first", id="an encrypted key"),
    *(
        pytest.param(lambda pair, _, mode=mode: pair.key.chmod(mode), f"{{pair.key}}: {problem}: chmod 600 {{pair.key}}", id=f"mode {mode:o}")
        for mode, problem in (
            (0o604, "everybody on this machine has access to it"),
            (0o644, "everybody on this machine has access to it"),
            (0o620, f"group {os.getegid()} may do more to it than read"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "complaint"), MISTAKES)
def test_what_cannot_be_used_is_told_in_one_line(
    pair: Pair, authority: trustme.CA, spoil: Spoil, complaint: str
) -> None:
    spoil(pair, authority)

    with pytest.raises(UnusableCertificate) as error:
        server_context([pair.files])

    assert str(error.value) == complaint.format(pair=pair)


def test_the_advice_about_the_mode_helps(pair: Pair) -> None:
    pair.key.chmod(0o644)
    with pytest.raises(UnusableCertificate, match="chmod 600"):
        server_context([pair.files])

    pair.key.chmod(0o600)

    server_context([pair.files])
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600


class TestRenewal:
    async def test_a_renewal_is_noticed(
        self, pair: Pair, authority: trustme.CA, bundle: Path
    ) -> None:
        reloader = CertificateReloader([pair.files], interval=SHORT / 10)
        async with running(reloader.for_clients) as port, reloader.watching():
            before = await shown(port, bundle)
            with structlog.testing.capture_logs() as logs:
                pair.write(authority.issue_cert(*NAMES))
                await _logged(logs, "certificate_renewed")

            assert await shown(port, bundle) != before

    async def test_so_is_one_by_changed_links(
        self, authority: trustme.CA, bundle: Path, tmp_path: Path
    ) -> None:
        # As Kubernetes and certbot do.
        for name in ("old", "new"):
            folder = tmp_path / name
            folder.mkdir()
            Pair(folder / "tls.crt", folder / "tls.key").write(authority.issue_cert(*NAMES))
        current = tmp_path / "current"
        current.symlink_to("old")
        reloader = CertificateReloader(
            [(current / "tls.crt", current / "tls.key")], interval=SHORT / 10
        )
        async with running(reloader.for_clients) as port, reloader.watching():
            before = await shown(port, bundle)
            with structlog.testing.capture_logs() as logs:
                (tmp_path / "next").symlink_to("new")
                (tmp_path / "next").replace(current)
                await _logged(logs, "certificate_renewed")

            assert await shown(port, bundle) != before

    async def test_one_in_the_middle_of_a_reading_is_read_whole(
        self, authority: trustme.CA, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def issued() -> dict[str, str]:
            fresh = authority.issue_cert(*NAMES)
            chain = b"".join(blob.bytes() for blob in fresh.cert_chain_pems)
            return {"tls.crt": chain.decode(), "tls.key": fresh.private_key_pem.bytes().decode()}

        secret, renewed = SecretVolume(tmp_path / "mounted", **issued()), [issued()]
        reloader = CertificateReloader([(secret / "tls.crt", secret / "tls.key")])
        load = tls.server_context

        def load_and_swap(*given: Any) -> ssl.SSLContext:
            context = load(*given)
            if renewed:
                secret.swap(renewed.pop())
            return context

        async with running(reloader.for_clients) as port:
            before = await shown(port, bundle)
            monkeypatch.setattr(tls, "server_context", load_and_swap)
            assert reloader.reload() == "renewed"

            assert await shown(port, bundle) != before

    @pytest.mark.parametrize(("spoil", "complaint"), MISTAKES)
    async def test_a_broken_one_keeps_the_old_pair_and_says_so(
        self, pair: Pair, authority: trustme.CA, bundle: Path, spoil: Spoil, complaint: str
    ) -> None:
        reloader = CertificateReloader([pair.files])
        async with running(reloader.for_clients) as port:
            before = await shown(port, bundle)
            spoil(pair, authority)
            with structlog.testing.capture_logs() as logs:
                assert reloader.reload() == "broken"

            assert await shown(port, bundle) == before
        assert [(line["log_level"], line["reason"]) for line in logs] == [
            ("error", complaint.format(pair=pair))
        ]

    async def test_a_broken_one_is_logged_once_and_can_be_put_right(
        self, pair: Pair, authority: trustme.CA, bundle: Path
    ) -> None:
        reloader = CertificateReloader([pair.files], interval=0)
        fresh = authority.issue_cert(*NAMES)
        async with running(reloader.for_clients) as port, reloader.watching():
            before = await shown(port, bundle)
            with structlog.testing.capture_logs() as logs:
                _replace(pair.certificate, fresh.cert_chain_pems[0].bytes())
                await _logged(logs, "certificate_not_renewed")
                for _ in range(20):  # more looks at the files, which are as they were
                    await asyncio.sleep(0)
                assert [line["event"] for line in logs] == ["certificate_not_renewed"]
                assert await shown(port, bundle) == before

                _replace(pair.key, fresh.private_key_pem.bytes())
                await _logged(logs, "certificate_renewed")

            assert await shown(port, bundle) != before

    async def test_open_connections_go_on(
        self, pair: Pair, authority: trustme.CA, bundle: Path
    ) -> None:
        reloader = CertificateReloader([pair.files])
        async with running(reloader.for_clients) as port:
            reader, writer = await asyncio.open_connection(
                LOOPBACK,
                port,
                ssl=ssl.create_default_context(cafile=bundle),
                server_hostname="acme.harvestapp.com",
            )
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: acme.harvestapp.com\r\n\r\n")
                await reader.readuntil(b"https acme.harvestapp.com")
                pair.write(authority.issue_cert(*NAMES))
                assert reloader.reload() == "renewed"
            writer.close()
            await writer.wait_closed()

    def test_the_first_pair_has_to_be_good(self, pair: Pair) -> None:
        pair.certificate.write_text("garbage")

        with pytest.raises(UnusableCertificate, match="holds no certificate"):
            CertificateReloader([pair.files])


class TestDates:
    """What every client refuses is not served, and is told of in time."""

    def test_one_that_has_expired_does_not_start(self, pair: Pair, authority: trustme.CA) -> None:
        pair.write(issue(authority, -2))

        with pytest.raises(UnusableCertificate) as error:
            CertificateReloader([pair.files])

        assert str(error.value) == f"{pair.certificate}: it expired on {day(-2)}"

    def test_nor_does_one_that_is_not_valid_yet(self, pair: Pair, authority: trustme.CA) -> None:
        pair.write(issue(authority, 90, age=-2))

        with pytest.raises(UnusableCertificate, match="it is not valid before "):
            CertificateReloader([pair.files])

    def test_one_that_has_expired_does_not_take_the_place_of_a_good_one(
        self, pair: Pair, authority: trustme.CA
    ) -> None:
        reloader = CertificateReloader([pair.files])
        pair.write(issue(authority, -2))

        assert reloader.reload() == "broken"
        assert reloader.problem() is None
        assert reloader.warning() == (
            f"{pair.certificate}: it expired on {day(-2)}; the one before is in force"
        )

    def test_one_that_expires_while_it_serves_is_a_problem(
        self, pair: Pair, authority: trustme.CA
    ) -> None:
        pair.write(issue(authority, 30))
        days = iter([0, 31])
        reloader = CertificateReloader([pair.files], now=lambda: NOW + timedelta(days=next(days)))

        assert reloader.problem() == f"it expired on {day(30)}"

    def test_the_last_two_weeks_are_warned_of(self, pair: Pair, authority: trustme.CA) -> None:
        pair.write(issue(authority, 13))
        with structlog.testing.capture_logs() as logs:
            reloader = CertificateReloader([pair.files], now=lambda: NOW)

        told = f"it expires on {day(13)}, in 13 days"
        assert reloader.warning() == told
        assert [(line["event"], line["reason"]) for line in logs] == [
            ("certificate_expires_soon", told)
        ]

    def test_more_than_two_weeks_are_not(self, pair: Pair, authority: trustme.CA) -> None:
        pair.write(issue(authority, 14))
        with structlog.testing.capture_logs() as logs:
            reloader = CertificateReloader([pair.files], now=lambda: NOW)

        assert (reloader.problem(), reloader.warning(), logs) == (None, None, [])


class TestReload:
    def test_what_has_not_changed_is_not_called_renewed(self, pair: Pair) -> None:
        reloader = CertificateReloader([pair.files])
        with structlog.testing.capture_logs() as logs:
            assert reloader.reload() == "unchanged"

        assert logs == []

    def test_what_was_put_back_is_good_again(self, pair: Pair) -> None:
        reloader = CertificateReloader([pair.files])
        pair.key.chmod(0o644)
        assert reloader.reload() == "broken"
        pair.key.chmod(0o600)
        with structlog.testing.capture_logs() as logs:
            assert reloader.reload() == "unchanged"

        assert [line["event"] for line in logs] == ["certificate_good_again"]
        assert reloader.warning() is None


async def _logged(logs: list[Any], event: str) -> None:
    """Wait for a log line, giving the watch a turn after each look."""
    while all(line["event"] != event for line in logs):  # noqa: ASYNC110 - logs have no event
        await asyncio.sleep(0)


@pytest.mark.parametrize("part", ["certificate", "key"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(pair: Pair, part: str) -> None:
    file: Path = getattr(pair, part)
    file.unlink()
    os.mkfifo(file, 0o600)

    with pytest.raises(UnusableCertificate, match=f"{file}: it is not a regular file"):
        server_context([pair.files])
