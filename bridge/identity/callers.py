"""From credentials to a caller: the account and the v2 token that answer for a legacy call."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.identity.book import Book, Entry, login_key
from bridge.identity.credentials import Basic, Bearer, Credential, is_token
from bridge.identity.passwords import PasswordChecker
from bridge.secret import Secret
from bridge.v1.dialects import Dialect
from bridge.v1.errors import NotIdentified


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


class Identification:
    """Tells who is calling, by the ways that are enabled."""

    def __init__(
        self,
        ways: frozenset[Way],
        account_id: int | None,
        book: Callable[[], Book],
        passwords: PasswordChecker,
    ) -> None:
        """Accept callers by `ways`.

        Args:
            ways: the ways of calling that are enabled.
            account_id: the account of tokens that come for a subdomain the book does not know.
            book: answers the credential book in force.
            passwords: judges the passwords of the book's logins.
        """
        self._ways = ways
        self._account_id = account_id
        self._book = book
        self._passwords = passwords

    async def identify(
        self, offered: Iterable[Credential], subdomain: str | None, address: str
    ) -> Caller:
        """Return the caller whom the first acceptable credential names.

        `subdomain` is that of the host that was called, `address` where the call comes from.

        Raises:
            NotIdentified: no credential is of an enabled way, or none is right.
            Overloaded: too many passwords are being checked.
        """
        book = self._book()
        for credential in offered:
            match credential:
                case Basic(login, password):
                    caller = await self._by_password(book, subdomain, login, password, address)
                case Bearer(token):
                    caller = self._by_token(book, subdomain, token, Way.BEARER)
            if caller is not None:
                return caller
        raise NotIdentified("This call needs a login and password that Harvest knows.")

    async def _by_password(
        self, book: Book, subdomain: str | None, login: str, password: Secret, address: str
    ) -> Caller | None:
        entry = None if subdomain is None else book.find(subdomain, login)
        if Way.BOOK in self._ways and (
            # What comes with a login of the book must never reach v2 as if it were a token.
            book.knows(login) or Way.TOKEN_AS_PASSWORD not in self._ways
        ):
            right = await self._passwords.check(entry, subdomain, login, password, address)
            return _booked(entry) if right and entry is not None else None
        return self._by_token(book, subdomain, password, Way.TOKEN_AS_PASSWORD)

    def _by_token(
        self, book: Book, subdomain: str | None, token: Secret, way: Way
    ) -> Caller | None:
        account_id = book.accounts.get(subdomain or "", self._account_id)
        if way not in self._ways or account_id is None or not is_token(token.reveal()):
            return None
        return Caller(account_id, token, way, (account_id, token.digest()))


def _booked(entry: Entry) -> Caller:
    return Caller(
        entry.account_id,
        entry.token,
        Way.BOOK,
        (entry.subdomain, login_key(entry.login)),
        entry.dialect,
        entry.label,
    )
