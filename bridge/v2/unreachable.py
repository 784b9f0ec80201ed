"""Why v2 gave no answer, in words for the bridge's operator. Who asked is not known here."""

import os
import socket
import ssl
from urllib.parse import urlsplit

import aiohttp

_NO_SUCH_NAME = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)
)

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
"""OpenSSL's reasons where what came was no TLS at all."""

_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLCertVerificationError, "the certificate of {place} is not trusted: {reason}"),
    (ssl.SSLError, "TLS with {place} failed: {reason}"),
    (socket.gaierror, "the name {host} cannot be looked up: {reason}"),
    (ConnectionRefusedError, "{place} refuses connections"),
    (aiohttp.ServerDisconnectedError, "{place} closed the connection without an answer"),
    (ConnectionError, "{place} broke the connection"),
    (TimeoutError, "no connection to {place} in time"),
    (aiohttp.ClientPayloadError, "{place} broke its answer off"),
    (aiohttp.ClientResponseError, "what {place} answers is not HTTP"),
    (OSError, "{place}: {reason}"),
)
"""Of each error what is said of it; the first row that fits counts."""


def why_no_answer(error: Exception, base_url: str) -> str:
    """Return why a call of what is at `base_url` got no answer: which address, and what it did.

    An error's own words are left out, but for OpenSSL's and the system's: they quote what came.
    """
    cause = getattr(error, "os_error", error)
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if is_no_such_name(error):
        return f"no such host: {host}"
    if getattr(cause, "reason", None) in _NO_TLS:
        return f"no TLS at {place}: is it http?"
    words = next((words for kind, words in _WORDS if isinstance(cause, kind)), None)
    if words is None:
        return f"no answer from {place}: {type(cause).__name__}"
    return words.format(host=host, place=place, reason=_reason(cause))


def is_no_such_name(error: Exception) -> bool:
    """Tell whether there was no answer because nobody knows the name of the host."""
    cause = getattr(error, "os_error", error)
    return isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError):
        return (
            str(getattr(error, "reason", None) or "the handshake was broken off")
            .replace("_", " ")
            .lower()
        )
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else type(error).__name__
