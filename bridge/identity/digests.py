"""Keyed digests: logins, tokens and whole callers told apart in a log that names none of them.

Where the key is kept is not known here.
"""

import hashlib
from functools import lru_cache
from typing import Final

from bridge.identity.book import login_key
from bridge.secret import Secret

KEY_LENGTH: Final = 32
"""Bytes of a key: the installation's own, so that a digest cannot be looked up elsewhere."""

_SIZE = 8
"""Bytes of a digest of a login or token."""

_INTEGRATION_SIZE = 6


class Digests:
    """Makes digests that say nothing to who has not the key; bridges that share it agree."""

    def __init__(self, key: bytes) -> None:
        """Make digests by `key`, of 16 bytes at least and 64 at most."""
        if not 16 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError("a key of digests has 16 to 64 bytes")
        # What is digested as one is none of the others.
        self._login = hashlib.blake2b(key=key, person=b"login", digest_size=_SIZE)
        self._token = hashlib.blake2b(key=key, person=b"token", digest_size=_SIZE)
        # The same few call again and again.
        self.login = lru_cache(maxsize=1024)(self._login_digest)
        self._of_token = lru_cache(maxsize=1024)(self._token_digest)
        self._integration = hashlib.blake2b(
            key=key, person=b"integration", digest_size=_INTEGRATION_SIZE
        )

    def _login_digest(self, login: str) -> str:
        """Return 16 hex characters, the same for every spelling of one login."""
        digest = self._login.copy()
        digest.update(login_key(login).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def token(self, token: Secret) -> str:
        """Return 16 hex characters for a token."""
        return self._of_token(token.digest())

    def _token_digest(self, octets: bytes) -> str:
        digest = self._token.copy()
        digest.update(octets)
        return digest.hexdigest()

    def integration(self, *parts: object) -> str:
        """Return 12 hex characters for what makes up a caller; no two lists of parts share one."""
        digest = self._integration.copy()
        digest.update(ascii(parts).encode())
        return digest.hexdigest()
