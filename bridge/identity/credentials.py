"""Credentials as a legacy call carries them. Whether they are any good is not judged here."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bridge.secret import Secret

ACCESS_TOKEN = "access_token"  # noqa: S105 - the parameter's name
"""The query parameter that carries v1's OAuth2 tokens (schemas/README.md, "Who is calling")."""

TOKEN_LIMIT = 4096
"""The most characters that a v2 token may have."""

_TOKEN = re.compile(rf"[!-~]{{1,{TOKEN_LIMIT}}}")


def is_token(text: str) -> bool:
    """Tell whether `text` may stand in a header as a token: anything else must not get near one."""
    return _TOKEN.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Basic:
    """RFC 7617: a login, which for v1 is an e-mail address, and a password."""

    login: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Bearer:
    """RFC 6750: a token, from the Authorization header or the query."""

    token: Secret


Credential = Basic | Bearer


def credentials(authorization: str | None, query: Mapping[str, str]) -> Iterator[Credential]:
    """Yield the credentials of a call, the Authorization header's first.

    What cannot be read is left out: to the caller, a garbled credential is a wrong one.
    """
    scheme, *rest = (authorization or "").split(None, 1) or [""]
    value = "".join(rest).strip()
    if scheme.lower() == "basic" and (basic := _basic(value)):
        yield basic
    if scheme.lower() == "bearer" and value:
        yield Bearer(Secret(value))
    if token := query.get(ACCESS_TOKEN):
        yield Bearer(Secret(token))


def _basic(text: str) -> Basic | None:
    """Decode `base64(login:password)`; v1's documentation put it in parentheses, and so do some."""
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
    try:
        pair = decoded.decode("utf-8")
    except UnicodeDecodeError:
        # RFC 7617, section 2.1: before UTF-8 was asked for, clients sent ISO-8859-1.
        pair = decoded.decode("iso-8859-1")
    login, colon, password = pair.partition(":")
    return Basic(login, Secret(password)) if colon else None
