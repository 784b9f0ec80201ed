"""From credentials to a caller: the account and the v2 token that answer for a legacy call."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from secrets import token_bytes

from bridge.identity.book import Book, login_key
from bridge.identity.credentials import Basic, Bearer, Credential, is_token
from bridge.identity.digests import KEY_LENGTH, Digests
from bridge.identity.hosts import subdomain_for_a_log
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
    login: str | None = None
    """Keyed digest of the login that came, if one did."""
    token_digest: str | None = None
    """Keyed digest of the token that came, if it is not the book's."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose a call says that it is: nobody has looked whether that is true."""

    account_id: int | None = None
    login: str | None = None
    """Keyed digest of the login that came, if one did."""
    token: str | None = None
    """Keyed digest of the token that came, if it is not the book's."""
    way: Way | None = None
    """By which it would be served here, if the credential is right; None: by none."""
    label: str | None = None


NOBODY = Claim()


class Refusal(StrEnum):
    """Why a caller was refused, for the log alone."""

    NO_CREDENTIAL = "no-credential"
    GARBLED_CREDENTIAL = "garbled-credential"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - a code
    UNKNOWN_LOGIN = "unknown-login"
    UNKNOWN_SUBDOMAIN = "unknown-subdomain"
    NO_SUBDOMAIN = "no-subdomain"
    WRONG_SUBDOMAIN = "wrong-subdomain"
    """The book knows the login, at another subdomain."""
    LOCKED_OUT = "locked-out"
    """The password was not looked at, because too many have failed."""
    WAY_NOT_ENABLED = "way-not-enabled"
    NO_ACCOUNT = "no-account"
    NOT_A_TOKEN = "not-a-token"  # noqa: S105 - a code
    TOKEN_REFUSED = "token-refused"  # noqa: S105 - a code
    """By v2, and it was the client's own."""
    BOOK_TOKEN_REFUSED = "book-token-refused"  # noqa: S105 - a code
    FORBIDDEN = "forbidden"
    """By v2: the token's user may not do that."""
    BROWNOUT = "brownout"
    """On purpose, for a while."""
    SUNSET = "sunset"
    """On purpose, for ever."""


Claims = Callable[[int | None, str | None, str | None], None]
"""Is told whose a credential says that it is: account, and keyed digests of login and token."""


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
    digests: Digests = field(default_factory=lambda: Digests(token_bytes(KEY_LENGTH)))
    """Makes what a log may have of logins and tokens."""

    async def identify(
        self,
        offered: Iterable[Credential],
        subdomain: str | None,
        network: str,
        claims: Claims = lambda _account_id, _login, _token: None,
    ) -> Caller:
        """Return the caller whom the first acceptable credential names.

        `subdomain` is that of the host that was called, `network` where the call comes from, as
        `bridge.identity.hosts` counts it; `claims` is told of each credential that is refused, or
        was not looked at.

        Raises:
            NotIdentified: no credential is of an enabled way, or none is right.
            Overloaded: a password was not looked at.
        """
        book, tried = self.book(), []
        for credential in offered:
            caller: Caller | None = None
            login_digest = token_digest = None
            try:
                match credential:
                    case Basic(login, password):
                        login_digest = self.digests.login(login)
                        caller = await self._by_password(book, subdomain, login, password, network)
                    case Bearer(token):
                        token_digest = self.digests.token(token)
                        caller = self._by_token(book, subdomain, token, Way.BEARER)
            finally:
                if caller is None:
                    claims(self._account(book, subdomain), login_digest, token_digest)
            if caller is not None:
                caller.login = login_digest
                return caller
            tried.append(self._reason(book, subdomain, credential))
        raise NotIdentified(
            "This call needs a login and password that Harvest knows.",
            "; ".join(words for _, words in tried) or "no credential came with the call",
            tried[0][0] if tried else Refusal.NO_CREDENTIAL,
        )

    def claimed(self, offered: Iterable[Credential], subdomain: str | None) -> Claim:
        """Return whose a call says that it is, with what `identify` would note of its caller.

        No password is looked at: that is for whoever answers the call.
        """
        book, first = self.book(), NOBODY
        for credential in offered:
            claim = self._claim(book, subdomain, credential)
            if claim.way is not None:
                return claim
            if first is NOBODY:
                first = claim
        return first

    def _claim(self, book: Book, subdomain: str | None, credential: Credential) -> Claim:
        match credential:
            case Basic(login, password):
                digest = self.digests.login(login)
                entry = None if subdomain is None else book.find(subdomain, login)
                if self._is_the_books(book, login):
                    if entry is None:
                        return Claim(self._account(book, subdomain), digest)
                    return Claim(entry.account_id, digest, way=Way.BOOK, label=entry.label)
                caller = self._by_token(book, subdomain, password, Way.TOKEN_AS_PASSWORD)
                if caller is None:
                    return Claim(self._account(book, subdomain), digest)
                return Claim(caller.account_id, digest, caller.token_digest, caller.way)
            case Bearer(token):
                caller = self._by_token(book, subdomain, token, Way.BEARER)
                way = None if caller is None else caller.way
                return Claim(self._account(book, subdomain), None, self.digests.token(token), way)

    def _reason(
        self, book: Book, subdomain: str | None, credential: Credential
    ) -> tuple[Refusal, str]:
        """Say why a credential was refused, for the log: it is not quoted."""
        if isinstance(credential, Basic) and self._is_the_books(book, credential.login):
            return _why_not_the_books(book, subdomain, credential.login)
        way = Way.BEARER if isinstance(credential, Bearer) else Way.TOKEN_AS_PASSWORD
        if way not in self.ways:
            return Refusal.WAY_NOT_ENABLED, f"auth has no {way}"
        if self._account(book, subdomain) is None:
            where = subdomain_for_a_log(subdomain)
            asked = "a host name without a subdomain" if where is None else f"subdomain {where}"
            return (
                Refusal.NO_ACCOUNT,
                f"no account for {asked}, and the setting account_id is not set",
            )
        return Refusal.NOT_A_TOKEN, "no token, by its characters"

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
        digest = self.digests.token(token)
        return Caller(account_id, token, way, (account_id, token.digest()), token_digest=digest)

    def _is_the_books(self, book: Book, login: str) -> bool:
        # What comes with a login of the book must never reach v2 as if it were a token.
        return Way.BOOK in self.ways and (
            book.knows(login) or Way.TOKEN_AS_PASSWORD not in self.ways
        )

    def _account(self, book: Book, subdomain: str | None) -> int | None:
        return book.accounts.get(subdomain or "", self.account_id)


def _why_not_the_books(book: Book, subdomain: str | None, login: str) -> tuple[Refusal, str]:
    # All is looked up, whatever the answer: the time it takes must not tell it.
    is_there = book.find(subdomain or "", login) is not None
    is_elsewhere = book.knows(login)
    has_subdomain = (subdomain or "") in book.accounts
    where = subdomain_for_a_log(subdomain)
    if where is None:
        words = "no subdomain: the host name is below none of the domains, and subdomain is not set"
        return Refusal.NO_SUBDOMAIN, words
    if is_there:
        return Refusal.WRONG_PASSWORD, f"wrong password at subdomain {where}"
    if has_subdomain:
        code, words = Refusal.UNKNOWN_LOGIN, f"no such login at subdomain {where}"
    else:
        code, words = Refusal.UNKNOWN_SUBDOMAIN, f"the book has no subdomain {where}"
    return Refusal.WRONG_SUBDOMAIN if is_elsewhere else code, words
