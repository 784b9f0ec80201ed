"""Which versions and ciphers of TLS clients may speak, and what an operator is told of old ones.

Certificates are not known here, nor what becomes of a handshake that fails.
"""

import ssl
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from bridge.settings import TlsMinimum

_OLDEST = {
    TlsMinimum.V1_2: ssl.TLSVersion.TLSv1_2,
    TlsMinimum.V1_1: ssl.TLSVersion.TLSv1_1,
    TlsMinimum.V1_0: ssl.TLSVersion.TLSv1,
}

_OLD = frozenset({"TLSv1", "TLSv1.1"})
"""What RFC 8996 deprecates, as OpenSSL calls it."""

_OLD_CIPHERS = "ECDHE+aRSA+AES+SHA1:ECDHE+aECDSA+AES+SHA1:RSA+AESGCM:RSA+AES:!AESCCM"
"""What there was before TLS 1.2, and for clients without elliptic curves, by RSA alone. A client of
that time that knows both kinds of certificates trusts an RSA one sooner."""

_BESIDE_THE_CURRENT: Mapping[TlsMinimum, str] = {
    TlsMinimum.V1_1: _OLD_CIPHERS,
    # Windows before Vista has neither AES nor anything better. OpenSSL is often built without.
    TlsMinimum.V1_0: f"{_OLD_CIPHERS}:RSA+3DES",
}
"""What a minimum adds behind the ciphers that 1.2 takes: who knows one of those is not given others
(RFC 9325, section 4.2)."""


class Accepted(NamedTuple):
    """What of TLS is spoken with clients."""

    minimum: TlsMinimum = TlsMinimum.V1_2
    ciphers: str | None = None
    """Up to TLS 1.2, in OpenSSL's words; None: what the minimum takes."""

    @property
    def takes_old(self) -> bool:
        """Whether versions are spoken that RFC 8996 deprecates."""
        return self.minimum is not TlsMinimum.V1_2

    def apply(self, context: ssl.SSLContext) -> None:
        """Have a server's side speak this, and no more.

        What the system's own settings of OpenSSL say of versions and ciphers counts no more then;
        what its providers and policies forbid stays forbidden, which `warning` tells.
        """
        with warnings.catch_warnings(), suppress(ValueError):
            warnings.simplefilter("ignore", DeprecationWarning)  # it is meant
            # A ValueError is OpenSSL without that version. The one before stays, which is newer.
            context.minimum_version = _OLDEST[self.minimum]
        ciphers = self.ciphers
        if ciphers is None and self.takes_old:
            ciphers = f"{':'.join(current_ciphers())}:{_BESIDE_THE_CURRENT[self.minimum]}"
        if ciphers is not None:
            # TLS 1.0 and 1.1 sign with MD5 and SHA-1, which OpenSSL 3 does at no other level.
            level = ":@SECLEVEL=0" if self.takes_old and "@SECLEVEL" not in ciphers else ""
            context.set_ciphers(f"{ciphers}{level}")

    def warning(self, context: ssl.SSLContext, *, shows_rsa: bool) -> str | None:
        """Return what an operator should know of what is spoken, None if nothing.

        `context` is a server's side that has this, which is tried by handshakes in memory;
        `shows_rsa` is whether one of its certificates knows nothing of elliptic curves.
        """
        told = []
        cannot = why_not_spoken(context, _OLDEST[self.minimum])
        if cannot is not None:
            told.append(
                f"TLS {self.minimum} is not spoken, whatever is set: {cannot} (OpenSSL's policy on "
                "this machine, or tls_ciphers)"
            )
        elif self.takes_old:
            told.append(
                f"tls_minimum is {self.minimum}: TLS below 1.2 protects badly (RFC 8996); calls "
                "that come by it have the note old-tls"
            )
        if self.takes_old and not shows_rsa:
            told.append(
                "no certificate is RSA by its key and its signature, and many of those clients "
                "know nothing else"
            )
        if self.minimum is TlsMinimum.V1_0 and not (cannot or understands_ssl2_hello(context)):
            told.append("OpenSSL on this machine does not understand clients that open as SSL 2.0")
        return "; ".join(told) or None


CURRENT = Accepted()
"""What is spoken unless somebody says otherwise: TLS 1.2 and 1.3 (RFC 9325)."""


def why_not_spoken(server: ssl.SSLContext, version: ssl.TLSVersion) -> str | None:
    """Return why no handshake comes of a client that takes this version alone; None: one does."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client.minimum_version = client.maximum_version = version
    except ValueError:
        return "OpenSSL is built without it"
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    begun = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    try:
        while begun:
            for side in [*begun]:
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                    begun.remove(side)
    except ssl.SSLError as error:
        return str(error.reason).replace("_", " ").lower()
    return None


SSL2_HELLO = bytes.fromhex("801c 01 0301 0003 0000 0010 00002f") + bytes(16)
"""That of a client that speaks TLS 1.0 and AES128-SHA, as SSL 2.0 wrote it.

RFC 5246, appendix E.2. OpenSSL 0.9.8 and Java 6 open so; OpenSSL 4 does not take it any more.
"""


def understands_ssl2_hello(server: ssl.SSLContext) -> bool:
    """Tell whether a server's side of TLS 1.0 takes a hello of SSL 2.0, but for its cipher."""
    sent = ssl.MemoryBIO()
    sent.write(SSL2_HELLO)
    try:
        server.wrap_bio(sent, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLWantReadError:
        return True
    except ssl.SSLError as error:
        return error.reason == "NO_SHARED_CIPHER"
    return False


@cache
def current_ciphers() -> tuple[str, ...]:
    """Return the names of the ciphers up to TLS 1.2 that a minimum of 1.2 takes, best first.

    They are Python's own choice, which leaves out what has no forward secrecy, and MACs of SHA-1.
    """
    ciphers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
    return tuple(each["name"] for each in ciphers if each["protocol"] != "TLSv1.3")


def what_is_old(tls: ssl.SSLObject) -> str | None:
    """Return the version or cipher by which a connection came in spite of its age; None: neither.

    That is what shuts its client out as soon as nothing but the default is accepted.
    """
    version, cipher = tls.version(), tls.cipher()
    if version in _OLD:
        return version
    if version == "TLSv1.2" and cipher is not None and cipher[0] not in current_ciphers():
        return cipher[0]
    return None
