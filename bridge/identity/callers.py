"""From a credential to a caller: the account and the v2 token that answer for a legacy call."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from bridge.identity.credentials import Basic, Bearer, Credential
from bridge.secret import Secret
from bridge.v1.errors import NotIdentified

_TOKEN = re.compile(r"[!-~]{1,4096}")
"""What may stand in a header; anything else is no token, and must not get near one."""


class Way(StrEnum):
    """A way of calling (schemas/README.md, "Who is calling")."""

    TOKEN_AS_PASSWORD = "token-as-password"  # noqa: S105 - a name
    """Basic, with any login and a v2 token as the password."""

    BEARER = "bearer"
    """A v2 token as Bearer or `access_token`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a legacy call, as v2 will know them."""

    account_id: int
    token: Secret
    way: Way


def identify(offered: Iterable[Credential], ways: frozenset[Way], account_id: int) -> Caller:
    """Return the caller whom the first acceptable credential names.

    Raises:
        NotIdentified: no credential is of an enabled way, or none could be a token.
    """
    for credential in offered:
        way, token = _token(credential)
        if way in ways and _TOKEN.fullmatch(token.reveal()):
            return Caller(account_id, token, way)
    raise NotIdentified("This call needs a login and password that Harvest knows.")


def _token(credential: Credential) -> tuple[Way, Secret]:
    match credential:
        case Basic(_, password):
            return Way.TOKEN_AS_PASSWORD, password
        case Bearer(token):
            return Way.BEARER, token
