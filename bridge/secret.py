"""A value that must not be printed. Who owns which secret is not known here."""

import hashlib
import hmac
from typing import NoReturn, final


@final
class Secret:
    """A password or token: shows itself only to whoever calls `reveal`.

    It prints as `Secret(…)`, is true or false to nobody, has no hash, no length and no copy, and
    neither pickle nor a JSON encoder takes it. Two secrets compare in a time that does not tell
    where they differ; to compare one with text is a mistake, and raises TypeError.
    """

    __slots__ = ("_digest", "_value")

    __hash__ = None  # type: ignore[assignment]  # equal secrets would need hashes that tell of them

    def __init__(self, value: str) -> None:
        self._value = value
        self._digest: bytes | None = None

    def reveal(self) -> str:
        """Return the value, to be handed on and not kept."""
        return self._value

    def digest(self) -> bytes:
        """Return the SHA-256 of the value, which tells secrets apart and is computed once."""
        if self._digest is None:
            self._digest = hashlib.sha256(self._octets()).digest()
        return self._digest

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Secret):
            return hmac.compare_digest(self._octets(), other._octets())
        if isinstance(other, str | bytes | bytearray | memoryview):
            raise TypeError("a Secret compares with a Secret only")
        return NotImplemented

    def __bool__(self) -> NoReturn:
        raise TypeError("a Secret is neither true nor false")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be copied or pickled")

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        self.__reduce__()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret has no state to save")

    def _octets(self) -> bytes:
        # A lone surrogate is no Unicode, but a Python string can hold one.
        return self._value.encode("utf-8", "surrogatepass")
