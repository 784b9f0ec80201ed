"""TLS of both sides: the certificate they show, and how a renewed one takes its place.

Which settings name the files, and what listens with them, is not said here.
"""

import ssl
import stat
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, NoReturn

import structlog

from bridge.identity.files import Signatures, read_together, signatures, watching
from bridge.private_file import exposure

_log = structlog.get_logger("bridge.tls")

POLL_INTERVAL = 5.0
"""Seconds between two looks at the files."""

SOON = timedelta(days=14)
"""Before a certificate's end. Tools renew it earlier: if less is left, they do not any more."""


class UnusableCertificate(Exception):
    """A certificate or its key cannot be used; `str()` is one line for the operator."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the server's side of TLS 1.2 and 1.3 (RFC 5246, RFC 8446) with HTTP/1.1 above it.

    `certificate` is a PEM file with the server's certificate first and its chain after it, `key` a
    PEM file with the private key, not encrypted. What names a client may ask for by SNI (RFC 6066,
    section 3) is the certificate's to say: one with several names serves them all.

    Raises:
        UnusableCertificate: a file cannot be read or holds something else, the two do not belong
            together, or others have access to the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Compression gives secrets away by length (RFC 9325, section 3.3), and renegotiation is work
    # that a client can ask for again and again.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        status = key.stat()
        if _is_special(certificate):
            raise UnusableCertificate(f"{certificate}: it is not a regular file")
        # What a file holds tells more than its mode, which is right for a certificate.
        problem = stat.S_ISREG(status.st_mode) and _swapped(certificate, key)
        if problem := problem or exposure(key):
            raise UnusableCertificate(problem)
        # The error of what follows would not say which of the two cannot be read.
        certificate.open("rb").close()
        context.load_cert_chain(certificate, key, password=lambda: _refuse_encrypted(key))
    except ssl.SSLError as error:
        raise UnusableCertificate(_reason(error, certificate, key)) from None
    except OSError as error:
        raise UnusableCertificate(f"{error.filename or key}: {error.strerror}") from None
    return context


class Validity(NamedTuple):
    """From when to when a certificate may be used (RFC 5280, section 4.1.2.5)."""

    begins: datetime
    ends: datetime

    def problem(self, now: datetime) -> str | None:
        """Return why clients refuse it now, None if they do not."""
        if now > self.ends:
            return f"it expired on {_day(self.ends)}"
        if now < self.begins:
            return f"it is not valid before {_day(self.begins)}"
        return None

    def warning(self, now: datetime) -> str | None:
        """Return how soon it ends, None if that is not soon."""
        left = self.ends - now
        return f"it expires on {_day(self.ends)}, in {left.days} days" if left < SOON else None


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def validity(certificate: Path) -> Validity | None:
    """Return the validity of the first certificate in a PEM file that OpenSSL has taken.

    None where cryptography, which is stricter, does not read it: then only clients can say.
    """
    from cryptography import x509  # noqa: PLC0415 - large, and without TLS not needed

    try:
        first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except ValueError:
        return None
    return Validity(first.not_valid_before_utc, first.not_valid_after_utc)


def _refuse_encrypted(key: Path) -> NoReturn:
    # Without this, OpenSSL would ask for the passphrase on the terminal and wait.
    raise UnusableCertificate(f"{key}: the private key is encrypted: decrypt it first")


def _is_special(file: Path) -> bool:
    """Tell whether a file is one that need not come to an end, as a pipe or a device."""
    mode = file.stat().st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


_CERTIFICATE, _KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"
"""What is in the first line of either (RFC 7468), however it goes on."""


def _swapped(certificate: Path, key: Path) -> str | None:
    """Return which file holds what the other should, None if neither does; one may hold both."""
    for file, wanted, other, what in (
        (key, _KEY, _CERTIFICATE, "a certificate, not a private key"),
        (certificate, _CERTIFICATE, _KEY, "a private key, not a certificate"),
    ):
        held = file.read_bytes()
        if other in held and wanted not in held:
            return f"{file}: holds {what}: are the two swapped?"
    return None


_ANOTHERS = frozenset({"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""OpenSSL's reasons where key and certificate are two pairs' own, of one type or of two."""

_HANDSHAKES = {
    "HTTP_REQUEST": ("plain-http", "it spoke plain HTTP"),
    "HTTPS_PROXY_REQUEST": ("plain-http", "it took the bridge for a proxy"),
    "ALERT_UNKNOWN_CA": ("unknown-ca", "it does not know who issued the certificate"),
    "ALERT_CERTIFICATE_UNKNOWN": ("bad-certificate", "it does not trust the certificate"),
    "ALERT_BAD_CERTIFICATE": ("bad-certificate", "it does not trust the certificate"),
    "ALERT_CERTIFICATE_EXPIRED": ("bad-certificate", "it takes the certificate for expired"),
    "ALERT_PROTOCOL_VERSION": ("protocol-version", "it speaks neither TLS 1.2 nor 1.3"),
    "UNSUPPORTED_PROTOCOL": ("protocol-version", "it speaks neither TLS 1.2 nor 1.3"),
    "VERSION_TOO_LOW": ("protocol-version", "it speaks neither TLS 1.2 nor 1.3"),
    "NO_SHARED_CIPHER": ("no-shared-cipher", "it has no cipher in common with the bridge"),
    "WRONG_VERSION_NUMBER": ("not-tls", "what it spoke is no TLS"),
    "PACKET_LENGTH_TOO_LONG": ("not-tls", "what it spoke is no TLS"),
    "RECORD_LAYER_FAILURE": ("not-tls", "what it spoke is no TLS"),
}
"""What a client did, by the end of OpenSSL's reason: the beginning of an alert's varies."""


def why_no_handshake(error: OSError) -> tuple[str, str]:
    """Return why a handshake with a client failed: a code, and words for the operator."""
    if isinstance(error, TimeoutError):
        return "timeout", "it took too long"
    if not isinstance(error, ssl.SSLError) or not error.reason:
        return "reset", "it closed the connection within the handshake"
    known = (told for end, told in _HANDSHAKES.items() if error.reason.endswith(end))
    return next(known, ("other", error.reason.replace("_", " ").lower()))


def _reason(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason in _ANOTHERS:
        return f"{key}: the private key is not that of {certificate}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError:
        return f"{certificate}: holds no certificate that can be used (PEM)"
    if str(error.reason).endswith(("_TOO_SMALL", "_TOO_WEAK")):
        return f"{certificate}: too weak ({error.reason})"
    return f"{key}: holds no private key that can be used (PEM)"


class CertificateReloader:
    """A pair of files that is loaded again when it has been renewed.

    `context` is what to listen with, and stays the same object. Connections that are open keep the
    certificate they began with; each handshake takes the newest pair that was good.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        interval: float = POLL_INTERVAL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Load the pair for the first time.

        Args:
            certificate: a file as `server_context` takes it.
            key: likewise.
            interval: seconds between two looks at the files.
            now: answers the time of day.

        Raises:
            UnusableCertificate: it cannot be used, or clients would refuse it for its dates.
        """
        self._files = (certificate, key)
        self._interval = interval
        self._now = now
        self._not_renewed: str | None = None
        """What is wrong with the files as they are now; None when they are in force."""
        self._seen: Signatures = {}
        self._digest = b""
        """Of what the files held when they were loaded."""
        self._load()
        self.context = self._newest
        # Loading into a context that is in use could leave it with a new certificate and an old
        # key, so each pair has a context of its own, and a handshake is handed the newest.
        self.context.sni_callback = self._hand_over

    def _hand_over(self, handshake: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        handshake.context = self._newest

    def _load(self) -> bool:
        """Take the pair as it is now, and tell whether it is another one.

        Raises:
            UnusableCertificate: as the constructor does; the pair before stays.
        """
        newest, valid, digest = read_together(self._read, self._seen, UnusableCertificate)
        certificate = self._files[0]
        now = self._now()
        if valid is not None and (problem := valid.problem(now)):
            raise UnusableCertificate(f"{certificate}: {problem}")
        changed = digest != self._digest
        self._newest, self._validity, self._digest = newest, valid, digest
        if valid is not None and (warning := valid.warning(now)):
            _log.warning("certificate_expires_soon", certificate=str(certificate), reason=warning)
        return changed

    def _read(self, seen: Signatures) -> tuple[ssl.SSLContext, Validity | None, bytes]:
        """Return what the files make, how long it is valid, and the digest of what they hold."""
        seen.update(signatures(self._files))
        context = server_context(*self._files)
        try:
            valid = validity(self._files[0])
            digest = b"".join(sha256(file.read_bytes()).digest() for file in self._files)
        except OSError as error:
            raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None
        return context, valid, digest

    def problem(self) -> str | None:
        """Return why clients refuse the certificate in force, None if they do not."""
        return self._validity and self._validity.problem(self._now())

    @property
    def ends(self) -> datetime | None:
        """When the certificate in force expires, UTC; None: only clients can say."""
        return self._validity and self._validity.ends

    def warning(self) -> str | None:
        """Return why that may be so before long, or after the next start; None if it is not."""
        if self._not_renewed is not None:
            return f"{self._not_renewed}; the one before is in force"
        return self._validity and self._validity.warning(self._now())

    def reload(self) -> str:
        """Load the files again; return "renewed", "unchanged" or "broken": the old pair stays."""
        try:
            changed = self._load()
        except UnusableCertificate as error:
            self._not_renewed = str(error)
            _log.error("certificate_not_renewed", reason=str(error), serving="the one before")
            return "broken"
        if changed or self._not_renewed:
            _log.info(
                "certificate_renewed" if changed else "certificate_good_again",
                certificate=str(self._files[0]),
            )
        self._not_renewed = None
        return "renewed" if changed else "unchanged"

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Look at the files until the end of the block, and reload them when they have changed.

        A broken renewal is logged once: it is not tried again before the files change again.
        """
        return watching(
            lambda: self._seen,
            self._renew,
            lambda: _log.exception("certificate_not_looked_at", certificate=str(self._files[0])),
            self._interval,
        )

    async def _renew(self) -> None:
        self.reload()
