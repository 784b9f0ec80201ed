"""Old TLS, spoken on purpose: who gets in by it, who notices, and that nobody else is worse off."""

import asyncio
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import structlog
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bridge.record.log.events import ConnectionEvent
from bridge.server.handshakes import newest_offered, why_no_handshake
from bridge.server.tls import (
    CertificateReloader,
    Pair,
    UnusableCertificate,
    leaf,
    server_context,
    shows_rsa,
)
from bridge.server.tls_versions import (
    CURRENT,
    SSL2_HELLO,
    Accepted,
    current_ciphers,
    understands_ssl2_hello,
)
from bridge.settings import TlsMinimum
from tests.support.certificates import put_in_place
from tests.support.clocks import until
from tests.support.fronts import running_front
from tests.support.logged import logging
from tests.support.running import LOOPBACK, running_service

NAME = "acme.harvestapp.com"
OLD = Accepted(TlsMinimum.V1_0)
ANY = "ALL:@SECLEVEL=0"
V1_0, V1_1 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

pytestmark = pytest.mark.filterwarnings("ignore:ssl.*deprecated")


Asked = Callable[[], ssl.SSLContext]
"""Makes a client."""


class Pairs(NamedTuple):
    """Both kinds of certificates, on disk."""

    ecdsa: Pair
    rsa: Pair


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.RSA)


@pytest.fixture(scope="module")
def issued(authority: trustme.CA) -> Mapping[str, trustme.LeafCert]:
    types = trustme.KeyType
    return {
        "ecdsa": authority.issue_cert(NAME, key_type=types.ECDSA),
        "other ecdsa": authority.issue_cert(NAME, key_type=types.ECDSA),
        "rsa": authority.issue_cert(NAME, key_type=types.RSA),
    }


@pytest.fixture
def pairs(issued: Mapping[str, trustme.LeafCert], tmp_path: Path) -> Pairs:
    return Pairs(place(issued["ecdsa"], tmp_path / "ecdsa"), place(issued["rsa"], tmp_path / "rsa"))


def place(issued: trustme.LeafCert, folder: Path) -> Pair:
    folder.mkdir(exist_ok=True)
    return put_in_place(issued, folder)


def client(
    *versions: ssl.TLSVersion, ciphers: str = ANY, trusts: trustme.CA | None = None
) -> ssl.SSLContext:
    """A client that speaks from the first to the last of some versions, or those of today."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = trusts is not None
    if trusts is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        trusts.configure_trust(context)
    if versions:
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
    context.set_ciphers(ciphers)
    return context


def sign_by_sha_1(pair: Pair, authority: trustme.CA) -> None:
    """Have the authority sign a key of RSA anew, as it would have in 2008."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")
    certificate, key = pair
    (ca := key.with_name("ca.pem")).write_bytes(
        authority.cert_pem.bytes() + authority.private_key_pem.bytes()
    )
    ask = f"openssl req -new -key {key} -subj /CN={NAME}"
    sign = f"openssl x509 -req -sha1 -days 30 -set_serial 1 -CA {ca} -CAkey {ca} -out {certificate}"
    asked = subprocess.run(ask.split(), check=True, capture_output=True).stdout
    subprocess.run(sign.split(), input=asked, check=True, capture_output=True)


class Spoken(NamedTuple):
    """What came of a handshake."""

    version: str | None
    cipher: str
    shown: bytes
    """The certificate."""


class Handshake:
    """One in memory, step by step."""

    def __init__(
        self, server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = NAME
    ) -> None:
        self.there, self.back = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.back, self.there, server_hostname=name)
        self.server = server.wrap_bio(self.there, self.back, server_side=True)

    def go_on(self) -> Spoken:
        """Take it to its end.

        Raises:
            ssl.SSLError: either side gives up.
        """
        begun = [self.client, self.server]
        while begun:
            for side in [*begun]:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                begun.remove(side)
        cipher, shown = self.server.cipher(), self.client.getpeercert(binary_form=True)
        assert cipher is not None
        assert shown is not None
        return Spoken(self.server.version(), cipher[0], shown)


def spoken(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = NAME) -> Spoken:
    return Handshake(server, client, name).go_on()


def shown(issued: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def s_client(port: int, *options: str, sent: bytes = b"") -> str:
    """Have `openssl s_client` call a port, and return all that it says."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")
    command = ["openssl", "s_client", "-connect", f"{LOOPBACK}:{port}", "-cipher", ANY, *options]
    ran = subprocess.run(
        command, input=sent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return ran.stdout.decode(errors="replace")


async def named(request: web.BaseRequest) -> web.Response:
    return web.Response(text=request.host)


class TestWhoGetsIn:
    @pytest.mark.parametrize("minimum", TlsMinimum)
    @pytest.mark.parametrize("version", [V1_0, V1_1, V1_2, V1_3])
    def test_from_the_minimum_on_everybody_does(
        self, pairs: Pairs, minimum: TlsMinimum, version: ssl.TLSVersion
    ) -> None:
        oldest = {TlsMinimum.V1_0: V1_0, TlsMinimum.V1_1: V1_1, TlsMinimum.V1_2: V1_2}[minimum]
        server = server_context(pairs, Accepted(minimum))

        if version >= oldest:
            expected = version.name.replace("_", ".")
            assert spoken(server, client(version)).version == expected
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)unsupported protocol"):
                spoken(server, client(version))

    @pytest.mark.parametrize("cipher", ["AES128-SHA", "AES256-SHA", "ECDHE-RSA-AES128-SHA"])
    def test_the_ciphers_of_that_time_are_taken(self, pairs: Pairs, cipher: str) -> None:
        """Java 6 and OpenSSL 0.9.8 know RSA key exchange and AES-CBC with SHA-1."""
        assert spoken(server_context(pairs, OLD), client(V1_0, ciphers=f"{cipher}:@SECLEVEL=0"))

    @pytest.mark.parametrize(("option", "version"), [("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1")])
    async def test_a_call_of_theirs_is_served_and_noted(
        self, pairs: Pairs, option: str, version: str
    ) -> None:
        settings = {**files(pairs), "tls_minimum": "1.0", "account_id": 1}
        with logging() as log:
            async with running_service("http://127.0.0.1:1/v2", **settings) as (service, _):
                call = b"GET /people HTTP/1.0\r\n\r\n"
                said = await asyncio.to_thread(
                    s_client, service.port, option, "-noservername", "-ign_eof", sent=call
                )
        assert "HTTP/1.0 401 " in said
        (line,) = log.lines("legacy_call")
        assert line["tls"] == version
        assert line["notes"] == [{"code": "old-tls", "subject": version, "count": 1}]

    @pytest.mark.parametrize(
        ("cipher", "notes"),
        [
            ("AES128-SHA", [{"code": "old-tls", "subject": "AES128-SHA", "count": 1}]),
            ("ECDHE-RSA-AES128-GCM-SHA256", []),
        ],
    )
    async def test_so_is_one_by_a_cipher_that_only_the_setting_lets_in(
        self, pairs: Pairs, cipher: str, notes: list[object]
    ) -> None:
        """Whoever raises the minimum again has to know that its client would be shut out."""
        settings = {**files(pairs), "tls_minimum": "1.1", "account_id": 1}
        with logging() as log:
            async with running_service("http://127.0.0.1:1/v2", **settings) as (service, _):
                reader, writer = await asyncio.open_connection(
                    LOOPBACK, service.port, ssl=client(V1_2, ciphers=cipher), server_hostname=NAME
                )
                writer.write(b"GET /people HTTP/1.0\r\n\r\n")
                await reader.read()
                writer.close()
                await writer.wait_closed()

        (line,) = log.lines("legacy_call")
        assert (line["tls"], line["notes"]) == ("TLSv1.2", notes)

    def test_a_hello_as_ssl_2_0_wrote_it_is_understood(self, pairs: Pairs) -> None:
        """Java 6 opens with one; it has no SNI, nor anything else behind its ciphers."""
        assert understands_ssl2_hello(server_context(pairs, OLD))
        assert not understands_ssl2_hello(server_context(pairs))


def files(pairs: Pairs) -> dict[str, Path]:
    names = ("tls_certificate", "tls_key", "tls_second_certificate", "tls_second_key")
    return dict(zip(names, (*pairs.ecdsa, *pairs.rsa), strict=True))


class TestWhoIsNotWorseOff:
    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param(client, id="of today"),
            pytest.param(lambda: client(V1_0, V1_2), id="up to 1.2"),
            pytest.param(lambda: client(V1_0, V1_2, ciphers=f"AES128-SHA:{ANY}"), id="weak first"),
            pytest.param(lambda: client(V1_2, ciphers="RSA+AES:ECDHE+aRSA+AESGCM"), id="by RSA"),
            pytest.param(lambda: client(V1_2, ciphers="ECDHE+AES+SHA256"), id="CBC"),
        ],
    )
    @pytest.mark.parametrize("minimum", [TlsMinimum.V1_1, TlsMinimum.V1_0])
    def test_who_can_do_better_gets_what_it_got(
        self, pairs: Pairs, minimum: TlsMinimum, asked: Asked
    ) -> None:
        now = spoken(server_context(pairs, Accepted(minimum)), asked())

        assert now == spoken(server_context(pairs), asked())
        assert now.version == "TLSv1.3" or now.cipher in current_ciphers()

    def test_nothing_is_encrypted_badly_beyond_what_was_asked_for(self, pairs: Pairs) -> None:
        ciphers = server_context(pairs, OLD).get_ciphers()

        assert {each["strength_bits"] >= 112 for each in ciphers} == {True}
        assert not {"RC4", "NULL", "EXP", "ADH", "AECDH", "DES-CBC-", "MD5"} & {
            part for each in ciphers for part in each["name"].split("-")
        }
        names = [each["name"] for each in ciphers if each["protocol"] != "TLSv1.3"]
        assert tuple(names[: len(current_ciphers())]) == current_ciphers()

    @pytest.mark.parametrize("version", [V1_0, V1_1])
    def test_a_client_can_see_that_it_was_talked_down(
        self, pairs: Pairs, version: ssl.TLSVersion
    ) -> None:
        """RFC 8446, section 4.1.3: the end of the server's random says so, and is signed."""
        asked = Handshake(server_context(pairs, OLD), client(version))
        for side in (asked.client, asked.server):
            with pytest.raises(ssl.SSLWantReadError):
                side.do_handshake()
        hello = asked.back.read()

        assert hello[11 + 24 : 11 + 32] == b"DOWNGRD\x00"

    async def test_one_that_tried_better_before_is_not_answered(self, pairs: Pairs) -> None:
        """RFC 7507: it says so if somebody on the way made its first try fail."""
        told: list[ConnectionEvent] = []
        tls = server_context(pairs, OLD)
        async with running_front({"/": named}, tls=tls, failed=told) as (port, _front):
            await asyncio.to_thread(s_client, port, "-tls1_1", "-fallback_scsv")

        assert [each.detail for each in told] == ["inappropriate fallback"]

    async def test_renegotiation_stays_off(self, pairs: Pairs) -> None:
        async with running_front({"/": named}, tls=server_context(pairs, OLD)) as (port, _front):
            said = await asyncio.to_thread(s_client, port, "-tls1", sent=b"R\n")

        assert "RENEGOTIATING" in said
        assert "no renegotiation" in said

    def test_administrators_speak_nothing_old(self, pairs: Pairs) -> None:
        reloader = CertificateReloader(pairs, OLD)

        assert spoken(reloader.for_clients(), client(V1_0)).version == "TLSv1"
        with pytest.raises(ssl.SSLError, match=r"(?i)unsupported protocol"):
            spoken(reloader.for_admins(), client(V1_0))
        with pytest.raises(ssl.SSLError, match=r"(?i)no shared cipher"):
            spoken(reloader.for_admins(), client(V1_2, ciphers="AES128-SHA"))


class TestWhatIsTold:
    async def test_the_start_warns_and_so_does_readyz(self, pairs: Pairs) -> None:
        settings = {**files(pairs), "tls_minimum": "1.0", "account_id": 1}
        with logging() as log:
            async with (
                running_service("http://127.0.0.1:1/v2", **settings) as (service, _),
                aiohttp.ClientSession(f"http://{LOOPBACK}:{service.admin_port}") as monitor,
                monitor.get("/readyz") as answer,
            ):
                warnings = (await answer.json())["warnings"]

        reason = (
            "tls_minimum is 1.0: TLS below 1.2 protects badly (RFC 8996); calls that come by it "
            "have the note old-tls"
        )
        (line,) = log.lines("old_tls")
        assert (line["level"], line["tls_minimum"]) == ("warning", "1.0")
        assert line["reason"] == warnings["tls"] == reason

    def test_of_what_is_current_nothing_is(self, pairs: Pairs) -> None:
        assert CertificateReloader(pairs).warning_of_versions() is None

    @pytest.mark.parametrize(
        ("accepted", "shown", "told"),
        [
            (
                OLD,
                ["ECDSA"],
                "no certificate is RSA by its key and its signature, and many of those clients ",
            ),
            (
                Accepted(TlsMinimum.V1_0, "ECDHE+AESGCM"),
                ["ECDSA", "RSA"],
                "TLS 1.0 is not spoken, whatever is set: no shared cipher (",
            ),
            (
                Accepted(TlsMinimum.V1_2, "ECDHE+aRSA+AESGCM"),
                ["ECDSA"],
                "TLS 1.2 is not spoken, whatever is set: no shared cipher (",
            ),
        ],
    )
    def test_what_is_asked_for_and_does_not_come_of_it(
        self, pairs: Pairs, accepted: Accepted, shown: list[str], told: str
    ) -> None:
        of_types = {"ECDSA": pairs.ecdsa, "RSA": pairs.rsa}
        context = server_context([of_types[each] for each in shown], accepted)

        assert told in (accepted.warning(context, shows_rsa="RSA" in shown) or "")

    def test_a_certificate_that_an_elliptic_key_has_signed_is_no_rsa_one(
        self, pairs: Pairs, tmp_path: Path
    ) -> None:
        """OpenSSL 0.9.8 without elliptic curves takes the key, and not who vouches for it."""
        by_ecdsa = trustme.CA().issue_cert(NAME, key_type=trustme.KeyType.RSA)
        pair = place(by_ecdsa, tmp_path / "mixed")

        assert shows_rsa([leaf(pairs.ecdsa[0]), leaf(pairs.rsa[0])])
        assert not shows_rsa([leaf(pairs.ecdsa[0]), leaf(pair[0])])

    @pytest.mark.parametrize(
        ("policy", "told"),
        [
            ("MinProtocol = TLSv1.2\nCipherString = DEFAULT@SECLEVEL=2", "tls_minimum is 1.0"),
            ("Protocol = -TLSv1", "TLS 1.0 is not spoken, whatever is set: no protocols available"),
        ],
    )
    def test_what_the_system_forbids_is_found_by_trying(
        self, pairs: Pairs, tmp_path: Path, policy: str, told: str
    ) -> None:
        """What Debian and others set as their least counts no more; what they rule out does."""
        file = tmp_path / "openssl.cnf"
        file.write_text(
            "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = each\n"
            f"[each]\n{policy}\n"
        )
        code = (
            "import sys; from pathlib import Path; from bridge.settings import TlsMinimum\n"
            "from bridge.server.tls import CertificateReloader, Accepted\n"
            "pair = tuple(map(Path, sys.argv[1:])); old = Accepted(TlsMinimum.V1_0)\n"
            "print(CertificateReloader([pair], old).warning_of_versions())"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code, *pairs.rsa],
            env={"OPENSSL_CONF": str(file), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )

        assert ran.stdout.startswith(told)


SSL3_HELLO = (
    bytes.fromhex("16 0300 002d 01 000029 0300") + bytes(33) + bytes.fromhex("0002002f0100")
)
"""That of a client that speaks SSL 3.0 and AES128-SHA."""


@pytest.mark.parametrize(
    ("sent", "minimum", "told"),
    [
        (SSL2_HELLO, "1.2", "it speaks TLS 1.0 at most, and here it takes TLS 1.2 or newer"),
        (SSL2_HELLO, "1.1", "it speaks TLS 1.0 at most, and here it takes TLS 1.1 or newer"),
        (SSL3_HELLO, "1.0", "it speaks SSL 3.0 at most, and here it takes TLS 1.0 or newer"),
        (V1_1, "1.2", "it speaks TLS 1.1 at most, and here it takes TLS 1.2 or newer"),
    ],
)
async def test_who_is_too_old_is_told_with_what_it_speaks(
    pairs: Pairs, sent: bytes | ssl.TLSVersion, minimum: str, told: str
) -> None:
    failed: list[ConnectionEvent] = []
    tls = server_context(pairs, Accepted(TlsMinimum(minimum)))
    async with running_front({"/": named}, tls=tls, failed=failed) as (port, _front):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(sent if isinstance(sent, bytes) else hello_of(client(sent)))
        await reader.read()
        writer.close()
        await until(lambda: failed)

    assert [(each.reason, each.detail) for each in failed] == [("protocol-version", told)]


def hello_of(asked: ssl.SSLContext, name: str | None = NAME) -> bytes:
    """What a client opens with."""
    there = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        asked.wrap_bio(ssl.MemoryBIO(), there, server_hostname=name).do_handshake()
    return there.read()


class TestWhatAClientOffers:
    @pytest.mark.parametrize(
        ("version", "offered"),
        [(V1_0, "TLS 1.0"), (V1_1, "TLS 1.1"), (V1_2, "TLS 1.2"), (V1_3, "TLS 1.2")],
    )
    def test_is_in_its_hello(self, version: ssl.TLSVersion, offered: str) -> None:
        assert newest_offered(hello_of(client(version))[:16]) == offered

    def test_is_not_told_where_the_hello_came_in_pieces(self, pairs: Pairs) -> None:
        server = server_context(pairs, Accepted(TlsMinimum.V1_1))
        with pytest.raises(ssl.SSLError) as failed:
            spoken(server, client(V1_0))

        assert why_no_handshake(failed.value, server, b"\x16\x03") == (
            "protocol-version",
            "it speaks no version that is taken here: TLS 1.1 or newer",
        )

    @given(st.binary(max_size=16))
    def test_is_not_made_up(self, hello: bytes) -> None:
        names = {None, "SSL 2.0", "SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2"}

        assert newest_offered(hello) in names


class TestBothKindsOfCertificates:
    @pytest.mark.parametrize("name", [NAME, None], ids=["by name", "without a name"])
    @pytest.mark.parametrize(
        ("asked", "kind"),
        [
            (lambda: client(V1_0), "rsa"),
            (lambda: client(V1_2, ciphers="ECDHE+aRSA+AESGCM"), "rsa"),
            (lambda: client(V1_2, ciphers="ECDHE+aECDSA+AESGCM"), "ecdsa"),
            (lambda: client(V1_2), "ecdsa"),
            (client, "ecdsa"),
        ],
    )
    @pytest.mark.parametrize("is_turned", [False, True])
    def test_each_client_is_shown_the_one_that_it_can_use(
        self,
        pairs: Pairs,
        issued: Mapping[str, trustme.LeafCert],
        asked: Asked,
        kind: str,
        name: str | None,
        is_turned: bool,
    ) -> None:
        server = server_context(pairs[::-1] if is_turned else pairs, OLD)

        assert spoken(server, asked(), name).shown == shown(issued[kind])

    def test_who_verifies_takes_either(self, pairs: Pairs, authority: trustme.CA) -> None:
        for trusting in (
            client(V1_0, trusts=authority),
            client(V1_3, trusts=authority),
        ):
            assert spoken(server_context(pairs, OLD), trusting)

    def test_two_of_one_type_are_refused(
        self, pairs: Pairs, issued: Mapping[str, trustme.LeafCert], tmp_path: Path
    ) -> None:
        other = place(issued["other ecdsa"], tmp_path / "other")
        with pytest.raises(UnusableCertificate, match="as that of"):
            server_context([pairs.rsa, pairs.rsa])

        with pytest.raises(UnusableCertificate) as error:
            server_context([pairs.ecdsa, other])

        assert str(error.value) == (
            f"{other[0]}: its key is ECDSA, as that of {pairs.ecdsa[0]}: one of each type can be "
            "shown"
        )

    def test_one_that_was_signed_by_sha_1_is_for_old_clients_alone(
        self, pairs: Pairs, issued: Mapping[str, trustme.LeafCert], authority: trustme.CA
    ) -> None:
        """Those before SHA-256 know no other; OpenSSL 3 takes it at no higher level."""
        sign_by_sha_1(pairs.rsa, authority)
        with pytest.raises(UnusableCertificate, match=f"{pairs.rsa[0]}: too weak"):
            CertificateReloader(pairs)
        reloader = CertificateReloader(pairs, OLD)

        assert spoken(reloader.for_clients(), client(V1_0)).shown != shown(issued["rsa"])
        assert spoken(reloader.for_admins(), client(V1_2)).shown == shown(issued["ecdsa"])
        alone = CertificateReloader([pairs.rsa], OLD, serves_admins=False)
        assert spoken(alone.for_clients(), client(V1_0))
        with pytest.raises(UnusableCertificate, match=f"{pairs.rsa[0]}: too weak"):
            CertificateReloader([pairs.rsa], OLD)

    @pytest.mark.parametrize("turn", [1, -1])
    def test_neither_takes_the_key_of_the_other_for_its_own(self, pairs: Pairs, turn: int) -> None:
        first, second = pairs[::turn]
        mixed = [first, (second[0], first[1])]

        with pytest.raises(UnusableCertificate) as error:
            server_context(mixed)

        assert str(error.value) == f"{first[1]}: the private key is not that of {second[0]}"

    def test_neither_key_may_be_open_to_others(self, pairs: Pairs) -> None:
        for _, key in pairs:
            key.chmod(0o644)
            with pytest.raises(UnusableCertificate, match=f"{key}: everybody on this machine"):
                server_context(pairs)
            key.chmod(0o600)

    def test_what_ends_first_is_told_with_its_name(
        self, pairs: Pairs, authority: trustme.CA
    ) -> None:
        now = datetime.now(UTC)
        ending = authority.issue_cert(
            NAME, key_type=trustme.KeyType.RSA, not_before=now, not_after=now + timedelta(days=3)
        )
        put_in_place(ending, pairs.rsa[0].parent)
        with structlog.testing.capture_logs() as logs:
            reloader = CertificateReloader(pairs, now=lambda: now)

        assert [line["certificate"] for line in logs] == [str(pairs.rsa[0])]
        assert (reloader.warning() or "").startswith(f"{pairs.rsa[0]}: it expires on ")
        assert reloader.problem() is None
        assert reloader.ends["RSA"] < reloader.ends["ECDSA"]

    def test_one_that_is_renewed_and_broken_leaves_both_as_they_were(
        self, pairs: Pairs, issued: Mapping[str, trustme.LeafCert]
    ) -> None:
        reloader = CertificateReloader(pairs, OLD)
        put_in_place(issued["other ecdsa"], pairs.rsa[0].parent)

        assert reloader.reload() == "broken"

        assert spoken(reloader.for_clients(), client(V1_0)).shown == shown(issued["rsa"])
        assert spoken(reloader.for_clients(), client()).shown == shown(issued["ecdsa"])

    def test_one_is_renewed_without_the_other(
        self, pairs: Pairs, issued: Mapping[str, trustme.LeafCert]
    ) -> None:
        reloader = CertificateReloader(pairs, OLD)
        put_in_place(issued["other ecdsa"], pairs.ecdsa[0].parent)

        assert reloader.reload() == "renewed"

        for context in (reloader.for_clients(), reloader.for_admins()):
            assert spoken(context, client()).shown == shown(issued["other ecdsa"])
        assert spoken(reloader.for_clients(), client(V1_0)).shown == shown(issued["rsa"])

    def test_a_handshake_ends_with_the_pair_that_it_began_with(
        self, pairs: Pairs, issued: Mapping[str, trustme.LeafCert]
    ) -> None:
        """Also where the next one has a key of another type."""
        reloader = CertificateReloader([pairs.ecdsa], OLD)
        begun = Handshake(reloader.for_clients(), client(V1_2))
        put_in_place(issued["rsa"], pairs.ecdsa[0].parent)
        assert reloader.reload() == "renewed"

        assert begun.go_on().shown == shown(issued["ecdsa"])
        assert spoken(reloader.for_clients(), client(V1_2)).shown == shown(issued["rsa"])

    def test_who_resumes_after_that_is_shown_the_new_one(
        self, pairs: Pairs, issued: Mapping[str, trustme.LeafCert]
    ) -> None:
        reloader, asked = CertificateReloader([pairs.ecdsa], OLD), client(V1_2)
        before = Handshake(reloader.for_clients(), asked)
        before.go_on()
        session = before.client.session
        put_in_place(issued["rsa"], pairs.ecdsa[0].parent)
        assert reloader.reload() == "renewed"

        after = Handshake(reloader.for_clients(), asked)
        after.client.session = session

        assert after.go_on().shown == shown(issued["rsa"])
        assert not after.client.session_reused


GARBAGE = [b"\xff\xfe\xfd\xfc", b"a\r\n\x1b", b"....", b"%00%", "ää".encode(), b"<x>\t"]


@pytest.fixture
def hellos() -> Mapping[bytes, bytes]:
    """Those that ask for names which are none, by name."""
    usual = hello_of(client(), "name")
    assert usual.count(b"name") == 1
    return {name: usual.replace(b"name", name) for name in GARBAGE}


@pytest.mark.parametrize("name", GARBAGE)
async def test_whatever_name_a_client_asks_for_it_is_shown_the_certificate(
    pairs: Pairs, hellos: Mapping[bytes, bytes], name: bytes
) -> None:
    """What is asked for is told nowhere, and looked at by nobody."""
    failed: list[ConnectionEvent] = []
    tls = server_context(pairs, CURRENT)
    async with running_front({"/": named}, tls=tls, failed=failed) as (port, front):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(hellos[name])

        assert (await reader.readexactly(3))[:2] == b"\x16\x03"  # it goes on
        writer.close()
        await until(lambda: not front.handshakes)
