"""Handshakes of TLS that failed: what their clients did, in a code and in words.

Who counts them, and tells of them, is not known here.
"""

import ssl

_TOO_OLD = "protocol-version", ""

_HANDSHAKES = {
    "HTTP_REQUEST": ("plain-http", "it spoke plain HTTP"),
    "HTTPS_PROXY_REQUEST": ("plain-http", "it took the bridge for a proxy"),
    "ALERT_UNKNOWN_CA": ("unknown-ca", "it does not know who issued the certificate"),
    "ALERT_CERTIFICATE_UNKNOWN": ("bad-certificate", "it does not trust the certificate"),
    "ALERT_BAD_CERTIFICATE": ("bad-certificate", "it does not trust the certificate"),
    "ALERT_CERTIFICATE_EXPIRED": ("bad-certificate", "it takes the certificate for expired"),
    "ALERT_PROTOCOL_VERSION": _TOO_OLD,
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "VERSION_TOO_LOW": _TOO_OLD,
    "NO_SHARED_CIPHER": ("no-shared-cipher", "it has no cipher in common with the bridge"),
    "WRONG_VERSION_NUMBER": ("not-tls", "what it spoke is no TLS"),
    "PACKET_LENGTH_TOO_LONG": ("not-tls", "what it spoke is no TLS"),
    "RECORD_LAYER_FAILURE": ("not-tls", "what it spoke is no TLS"),
}
"""What a client did, by the end of OpenSSL's reason: the beginning of an alert's varies."""

_VERSIONS = {
    b"\x00\x02": "SSL 2.0",
    b"\x03\x00": "SSL 3.0",
    b"\x03\x01": "TLS 1.0",
    b"\x03\x02": "TLS 1.1",
    b"\x03\x03": "TLS 1.2",
}
"""As a ClientHello writes them."""

_TAKEN = {
    ssl.TLSVersion.TLSv1: "TLS 1.0",
    ssl.TLSVersion.TLSv1_1: "TLS 1.1",
    ssl.TLSVersion.TLSv1_2: "TLS 1.2",
}


def why_no_handshake(error: OSError, tls: ssl.SSLContext, hello: bytes = b"") -> tuple[str, str]:
    """Return why a handshake with a client failed: a code, and words for the operator.

    `tls` is the server's side, and `hello` the first bytes that the client sent.
    """
    if isinstance(error, TimeoutError):
        return "timeout", "it took too long"
    if not isinstance(error, ssl.SSLError) or not error.reason:
        return "reset", "it closed the connection within the handshake"
    known = (told for end, told in _HANDSHAKES.items() if error.reason.endswith(end))
    told = next(known, ("other", error.reason.replace("_", " ").lower()))
    if told is _TOO_OLD:
        return told[0], _too_old(newest_offered(hello), tls.minimum_version)
    return told


def _too_old(offered: str | None, minimum: ssl.TLSVersion) -> str:
    taken = _TAKEN.get(minimum, "TLS")
    if offered in {None, "TLS 1.2"}:  # TLS 1.3 says so, too, and what it offers elsewhere
        return f"it speaks no version that is taken here: {taken} or newer"
    return f"it speaks {offered} at most, and here it takes {taken} or newer"


def newest_offered(hello: bytes) -> str | None:
    """Return the newest version that a client offers, up to TLS 1.2; None: not to be seen.

    It stands in the ClientHello behind the head of the record and its own (RFC 5246, section
    7.4.1.2), or in one as SSL 2.0 wrote them, which clients of old open with whatever they speak
    (RFC 5246, appendix E.2).
    """
    if hello[:2] == b"\x16\x03" and hello[5:6] == b"\x01":
        return _VERSIONS.get(hello[9:11])
    if hello[:1] >= b"\x80" and hello[2:3] == b"\x01":
        return _VERSIONS.get(hello[3:5])
    return None
