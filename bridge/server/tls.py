"""TLS of the legacy side: the certificate it shows, and how a renewed one takes its place.

Which settings name the files, and what listens with them, is not said here.
"""

import ssl
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NoReturn

import structlog

from bridge.identity.files import exposure, signatures, watching

_log = structlog.get_logger("bridge.tls")

POLL_INTERVAL = 5.0
"""Seconds between two looks at the files."""


class UnusableCertificate(Exception):
    """A certificate or its key cannot be used; `str()` is one line for the operator."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the server's side of TLS 1.2 and 1.3 (RFC 5246, RFC 8446) with HTTP/1.1 above it.

    `certificate` is a PEM file with the server's certificate first and its chain after it, `key` a
    PEM file with the private key, not encrypted. What names a client may ask for by SNI (RFC 6066,
    section 3) is the certificate's to say: one with several names serves them all.

    Raises:
        UnusableCertificate: a file cannot be read or holds something else, the two do not belong
            together, or others than its owner may read the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Compression gives secrets away by length (RFC 9325, section 3.3), and renegotiation is work
    # that a client can ask for again and again.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        if problem := exposure(key, key.stat(), "others may use this private key"):
            raise UnusableCertificate(problem)
        # The error of what follows would not say which of the two cannot be read.
        certificate.open("rb").close()
        context.load_cert_chain(certificate, key, password=lambda: _refuse_encrypted(key))
    except ssl.SSLError as error:
        raise UnusableCertificate(_reason(error, certificate, key)) from None
    except OSError as error:
        raise UnusableCertificate(f"{error.filename or key}: {error.strerror}") from None
    return context


def _refuse_encrypted(key: Path) -> NoReturn:
    # Without this, OpenSSL would ask for the passphrase on the terminal and wait.
    raise UnusableCertificate(f"{key}: the private key is encrypted: decrypt it first")


def _reason(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
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

    def __init__(self, certificate: Path, key: Path, *, interval: float = POLL_INTERVAL) -> None:
        """Load the pair for the first time, as `server_context` does; `interval` is in seconds."""
        self._files = (certificate, key)
        self._interval = interval
        self._seen = signatures(self._files)
        self.context = self._newest = server_context(certificate, key)
        # Loading into a context that is in use could leave it with a new certificate and an old
        # key, so each pair has a context of its own, and a handshake is handed the newest.
        self.context.sni_callback = self._hand_over

    def _hand_over(self, handshake: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        handshake.context = self._newest

    def reload(self) -> bool:
        """Load the files again, and tell whether they were good; if not, the old pair stays."""
        self._seen = signatures(self._files)
        try:
            self._newest = server_context(*self._files)
        except UnusableCertificate as error:
            _log.error("certificate_not_renewed", reason=str(error), serving="the one before")
            return False
        _log.info("certificate_renewed", certificate=str(self._files[0]))
        return True

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
