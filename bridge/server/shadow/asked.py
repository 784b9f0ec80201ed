"""What is kept of a call, and of what its client was answered, until the other side is asked."""

import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.comparing import Answer
from bridge.comparing.documents import LONGEST
from bridge.secret import Secret
from bridge.side import Side
from bridge.tape import Room
from bridge.v2.rate_limit import MOST_CALLS


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """What shadow may take of the bridge."""

    at_once: int = 4
    """Looks under way."""
    waiting: int = 200
    """Looks that wait for that; further ones are skipped."""
    size: int = 64 * 1024 * 1024
    """Bytes of answers that all of them hold."""
    seconds: float = 60.0
    """That a look may take in all, both sides asked twice."""
    v1_calls: int = MOST_CALLS * 4 // 5
    """Calls to one origin in v1's window of 15 seconds, those of clients among them, from which on
    it is not asked: v1 refused an account more than 100."""


class SkipReason(StrEnum):
    """Why the answers to a call were not compared, though it was its turn."""

    BUDGET = "budget"
    """A side may not be asked now, for the sake of clients (`bridge.upstream.spare`, `V1Side`)."""
    BUSY = "busy"
    """Too many others are under way, or wait; or there is no room for the answer."""
    REFUSED = "refused"
    """Its client was refused: what is wrong with a credential is not tried twice."""
    FAILED = "failed"
    """One side has failed, or did not answer: that says nothing of what it would answer."""
    CHANGING = "changing"
    """A second look found other differences than the first: something is being changed."""
    UNRECORDED = "unrecorded"
    """They were, but the translation log has no room for what came of it."""
    STOPPED = "stopped"
    """The bridge was told to stop."""


class Skipped(Exception):
    """The answers to a call are not compared."""

    def __init__(self, reason: SkipReason) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLarge(Exception):
    """An answer is too large to be compared."""

    def __init__(self, side: Side) -> None:
        super().__init__(side)
        self.side = side


@dataclass(frozen=True, slots=True)
class Asked:
    """A GET, as it can be asked again. Holds secrets."""

    path: str
    """Percent-encoded, as it came."""
    target: str
    """The same with its query."""
    query: Mapping[str, str]
    authorization: str | None
    accept: str | None
    """All lines of `Accept` as one."""
    subdomain: str | None
    network: str
    base_uri: str
    """That was called."""
    fields: Sequence[tuple[str, str]] = field(repr=False)
    """Of the head, as they go on to v1."""
    secrets: tuple[Secret, ...] = field(repr=False)
    """That came with it."""


AskV1 = Callable[[Asked, float], Awaitable[Answer]]
"""Asks v1, while less than a share of the calls that it may have was made; raises `Skipped` where
there is no answer, and `TooLarge`."""


class Overhearing:
    """An answer as it goes by on its way to the client, held within bounds.

    Belongs to the event loop's thread. `close` gives back the room that it has taken.
    """

    __slots__ = ("_parts", "_room", "_size", "content_type", "is_coded", "is_cut",
                 "is_whole", "status")  # fmt: skip

    def __init__(self, room: Room) -> None:
        """Take from `room` what is held."""
        self._room = room
        self._parts: list[bytes] = []
        self._size = 0
        self.status = 0
        self.content_type: str | None = None
        self.is_coded = False
        """Whether it is deflated: `answer` takes a while then, and is for another thread."""
        self.is_cut = False
        """Whether it is longer than can be compared, or than there is room for."""
        self.is_whole = False
        """Whether it has come to its end."""

    def began(
        self, status: int, content_type: str | None, content_encoding: str | None = None
    ) -> None:
        """Hear the head."""
        self.status, self.content_type = status, content_type
        coding = (content_encoding or "identity").strip().lower()
        if coding in {"gzip", "x-gzip", "deflate"}:
            self.is_coded = True
        elif coding != "identity":
            self._cut()

    def heard(self, part: bytes) -> None:
        """Hear some of the body."""
        if self.is_cut:
            return
        size = len(part)
        if self._size + size > LONGEST or size > self._room.left:
            self._cut()
            return
        self._room.left -= size
        self._size += size
        self._parts.append(part)

    def _cut(self) -> None:
        self.is_cut = True
        self.close()  # there may be no end of it

    def ended(self) -> None:
        """Hear that this was all."""
        self.is_whole = True

    def answered(self, status: int, content_type: str | None, parts: Iterable[bytes]) -> None:
        """Hear a whole answer."""
        self.began(status, content_type)
        for part in parts:
            self.heard(part)
        self.ended()

    def answer(self) -> Answer:
        """Return the answer, which has to be whole and not cut.

        Of one that is deflated there is no more than tells that it is too long to be compared; one
        that is not what it says is as it came.
        """
        body = b"".join(self._parts)
        if self.is_coded:
            with suppress(zlib.error):
                # Either, by its header.
                body = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, LONGEST + 1)
        return Answer(self.status, self.content_type, body)

    def close(self) -> None:
        """Hold nothing any more."""
        self._parts.clear()
        self._room.left += self._size
        self._size = 0


@dataclass(slots=True)
class Look:
    """A call whose other side is to be asked, once its client was answered."""

    asked: Asked
    primary: Side
    """Who answers the client."""
    overheard: Overhearing
    """What the client is answered."""
