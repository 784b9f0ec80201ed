"""What is kept of a call, and of what its client was answered, until the other side is asked."""

import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.comparing import Answer, Side
from bridge.comparing.documents import LONGEST
from bridge.secret import Secret
from bridge.tape import Room


class SkipReason(StrEnum):
    """Why the answers to a call were not compared, though it was its turn."""

    BUDGET = "budget"
    """v2 may not be asked now, for the sake of clients (`bridge.upstream.spare`)."""
    BUSY = "busy"
    """Too many others are under way, or wait; or there is no room for the answer."""
    REFUSED = "refused"
    """Its client was refused: what is wrong with a credential is not tried twice."""
    FAILED = "failed"
    """One side has failed, or did not answer: that says nothing of what it would answer."""
    CHANGING = "changing"
    """A second look found other differences than the first: something is being changed."""
    STOPPED = "stopped"
    """The bridge was told to stop."""


class Skipped(Exception):
    """The answers to a call are not compared."""

    def __init__(self, reason: SkipReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Asked:
    """A GET, as it can be asked again. Holds secrets."""

    path: str
    """Percent-encoded, as it came."""
    target: str
    """The same with its query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """As they came; of several lines of a name, the last one counts."""
    accept: str | None
    """All lines of `Accept` as one."""
    host: str
    """That was called, without a port."""
    subdomain: str | None
    network: str
    base_uri: str
    secrets: tuple[Secret, ...] = field(default=(), repr=False)


AskV1 = Callable[[Asked], Awaitable[Answer]]
"""Asks the origin; raises `Skipped` where there is no answer that could be compared."""


class Overhearing:
    """An answer as it goes by on its way to the client, copied within bounds.

    Belongs to the event loop's thread. `close` gives back the room that it has taken.
    """

    __slots__ = ("_body", "_inflate", "_room", "_taken", "content_type", "is_cut", "status")

    def __init__(self, room: Room) -> None:
        """Take from `room` what is held."""
        self._room = room
        self._taken = 0
        self._body = bytearray()
        self._inflate: zlib._Decompress | None = None
        self.status = 0
        """0: no answer has begun."""
        self.content_type: str | None = None
        self.is_cut = False
        """Whether it is longer than can be compared, or than there is room for."""

    def began(
        self, status: int, content_type: str | None, content_encoding: str | None = None
    ) -> None:
        """Hear the head."""
        self.status, self.content_type = status, content_type
        coding = (content_encoding or "identity").strip().lower()
        if coding in {"gzip", "x-gzip", "deflate"}:
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either, by its header
        elif coding not in {"identity", ""}:
            self.is_cut = True

    def heard(self, parts: Sequence[bytes]) -> None:
        """Hear some of the body."""
        for part in parts:
            if self.is_cut:
                return
            told = part if self._inflate is None else self._inflated(self._inflate, part)
            size = len(told)
            if len(self._body) + size > LONGEST or size > self._room.left:
                self.is_cut = True
                return
            self._room.left -= size
            self._taken += size
            self._body += told

    def _inflated(self, inflate: "zlib._Decompress", part: bytes) -> bytes:
        try:
            return inflate.decompress(part, LONGEST + 1)  # of which more is too much
        except zlib.error:
            self.is_cut = True
            return b""

    def answer(self) -> Answer:
        """Return the whole answer; call it once it has ended and is not cut."""
        return Answer(self.status, self.content_type, bytes(self._body))

    def close(self) -> None:
        """Hold nothing any more."""
        self._body.clear()
        self._room.left += self._taken
        self._taken = 0


@dataclass(slots=True)
class Look:
    """A call whose other side is to be asked, once its client was answered."""

    asked: Asked
    primary: Side
    """Who answers the client."""
    overheard: Overhearing
    """What the client is answered."""
