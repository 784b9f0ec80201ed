"""From credentials to a caller: the account and the v2 token that answer for a legacy call."""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.identity.book import Book, login_key
from bridge.identity.credentials import Basic, Bearer, Credential, is_token
from bridge.identity.hosts import LABEL
from bridge.identity.passwords import PasswordChecker
from bridge.secret import Secret
from bridge.v1.dialects import Dialect
from bridge.v1.errors import NotIdentified

_LABEL = re.compile(LABEL)
"""What a subdomain may be, and a log may have: it is no secret, and no v2 token, which is longer. A
client can write anything into its host name."""


class Way(StrEnum):
    """A way of calling (schemas/README.md, "Who is calling")."""

    BOOK = "book"
    """Basic, with a login and password of the credential book."""

    TOKEN_AS_PASSWORD = "token-as-password"  # noqa: S105 - a name
    """Basic, with any login and a v2 token as the password."""

    BEARER = "bearer"
    """A v2 token as Bearer or `access_token`."""


@dataclass(slots=True)
class Caller:
    """Whoever makes a legacy call, as v2 will know them."""

    account_id: int
    token: Secret
    way: Way
    key: Hashable = field(repr=False)
    """The same for every call of this caller, and nobody else's. Not to be logged."""
    dialect: Dialect | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Identification:
    """Tells who is calling, by the ways that are enabled."""

    ways: frozenset[Way]
    account_id: int | None
    """That of tokens which come for a subdomain that the book does not know."""
    book: Callable[[], Book]
    """Answers the credential book in force."""
    passwords: PasswordChecker
    """Judges the passwords of the book's logins."""

    async def identify(
        self, offered: Iterable[Credential], subdomain: str | None, network: str
    ) -> Caller:
        """Return the caller whom the first acceptable credential names.

        `subdomain` is that of the host that was called, `network` where the call comes from, as
        `bridge.identity.hosts` counts it.

        Raises:
            NotIdentified: no credential is of an enabled way, or none is right.
            Overloaded: a password was not looked at.
        """
        book, tried = self.book(), []
        for credential in offered:
            match credential:
                case Basic(login, password):
                    caller = await self._by_password(book, subdomain, login, password, network)
                case Bearer(token):
                    caller = self._by_token(book, subdomain, token, Way.BEARER)
            if caller is not None:
                return caller
            tried.append(self._reason(book, subdomain, credential))
        raise NotIdentified(
            "This call needs a login and password that Harvest knows.",
            "; ".join(tried) or "no credential came with the call",
        )

    def _reason(self, book: Book, subdomain: str | None, credential: Credential) -> str:
        """Say why a credential was refused, for the log: it is not quoted."""
        where = subdomain if subdomain is None or _LABEL.fullmatch(subdomain) else "…"
        if isinstance(credential, Basic) and self._is_the_books(book, credential.login):
            if subdomain is None:
                return (
                    "no subdomain: the host name is below none of the domains, and subdomain is "
                    "not set"
                )
            if subdomain not in book.accounts:
                return f"the book has no subdomain {where}"
            known = book.find(subdomain, credential.login) is not None
            what = "wrong password" if known else "no such login"
            return f"{what} at subdomain {where}"
        way = Way.BEARER if isinstance(credential, Bearer) else Way.TOKEN_AS_PASSWORD
        if way not in self.ways:
            return f"auth has no {way}"
        if self._account(book, subdomain) is None:
            asked = "a host name without a subdomain" if where is None else f"subdomain {where}"
            return f"no account for {asked}, and the setting account_id is not set"
        return "no token, by its characters"

    async def _by_password(
        self, book: Book, subdomain: str | None, login: str, password: Secret, network: str
    ) -> Caller | None:
        entry = None if subdomain is None else book.find(subdomain, login)
        if self._is_the_books(book, login):
            right = await self.passwords.check(entry, subdomain, login, password, network)
            if not right or entry is None:
                return None
            key = (entry.subdomain, login_key(entry.login))
            return Caller(entry.account_id, entry.token, Way.BOOK, key, entry.dialect, entry.label)
        return self._by_token(book, subdomain, password, Way.TOKEN_AS_PASSWORD)

    def _by_token(
        self, book: Book, subdomain: str | None, token: Secret, way: Way
    ) -> Caller | None:
        account_id = self._account(book, subdomain)
        if way not in self.ways or account_id is None or not is_token(token.reveal()):
            return None
        return Caller(account_id, token, way, (account_id, token.digest()))

    def _is_the_books(self, book: Book, login: str) -> bool:
        # What comes with a login of the book must never reach v2 as if it were a token.
        return Way.BOOK in self.ways and (
            book.knows(login) or Way.TOKEN_AS_PASSWORD not in self.ways
        )

    def _account(self, book: Book, subdomain: str | None) -> int | None:
        return book.accounts.get(subdomain or "", self.account_id)
