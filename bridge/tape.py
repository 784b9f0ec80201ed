"""A legacy call as it is overheard: what was said to its client and to v2, held within bounds.

Whether it is kept, and what may be read of it then, is written in `bridge.record.log.capture`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from bridge.secret import Secret

BODY_KEPT = 256 * 1024
"""Bytes of one body: some 200 messages, more than a developer reads."""

CALL_KEPT = 4 * 1024 * 1024
"""Bytes of all messages of one call: a list of a thousand pages must not take 256 MiB."""

ALL_KEPT = 64 * 1024 * 1024
"""Bytes of all calls under way."""

HEAD = 2 * 1024
"""Bytes that a message counts for beside its body."""

CUT = "cut"
"""Of the body, the beginning is held."""
NO_ROOM = "no room"
"""Of the body, nothing is held: too much else was."""


class Room:
    """What all calls under way may hold together. Belongs to the event loop's thread."""

    __slots__ = ("left",)

    def __init__(self, size: int = ALL_KEPT) -> None:
        self.left = size


class Heard:
    """A request or an answer, as it travelled: it may hold secrets."""

    __slots__ = ("body", "headers", "left_out", "size")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.body = b""
        self.size = 0
        """Bytes of the whole body."""
        self.left_out: str | None = None
        """Why `body` is not all of it, if it is not."""


class Timed(Protocol):
    """A try to call v2, as the record knows it."""

    method: str
    started: float
    status: int | None
    error: str | None
    milliseconds: float | None
    shared: bool


class Take:
    """One try to call v2."""

    __slots__ = ("_tape", "answer", "call", "request", "url")

    def __init__(self, tape: "Tape", call: Timed, url: str) -> None:
        self._tape = tape
        self.call = call
        self.url = url
        """What is known of it before it has left: the path and the query."""
        self.request: Heard | None = None
        self.answer: Heard | None = None

    def sent(self, url: str, headers: Mapping[str, str], body: bytes | None) -> None:
        """Hear the request as it was made."""
        self.url = url
        self.request = self._tape.hold(headers, (body,) if body else ())

    def began(self, headers: Mapping[str, str]) -> None:
        """Hear the head of the answer."""
        self.answer = self._tape.hold(headers)

    def answered(self, headers: Mapping[str, str], body: bytes) -> None:
        """Hear the whole answer."""
        self.answer = self._tape.hold(headers, (body,))


class Tape:
    """One legacy call. Belongs to the event loop's thread until it has ended."""

    __slots__ = (
        "_room",
        "_size",
        "answer",
        "began",
        "host",
        "request",
        "scheme",
        "secrets",
        "started",
        "takes",
        "target",
    )

    def __init__(
        self, room: Room, scheme: str, host: str, target: str, headers: Mapping[str, str]
    ) -> None:
        """Begin to hear a call of `target`, a path and its query."""
        self._room = room
        self._size = 0
        self.began = time.time()
        self.started = time.monotonic()
        self.scheme = scheme
        self.host = host
        self.target = target
        self.secrets: tuple[Secret, ...] = ()
        """Those that came with it, or that v2 was asked with."""
        self.takes: list[Take] = []
        self.request = self.hold(headers)
        self.answer: Heard | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        return self._size

    def hold(self, headers: Mapping[str, str], parts: Sequence[bytes] = ()) -> Heard:
        """Return a message, with as much of its body as there is room for."""
        heard = Heard(headers)
        self._fill(heard, parts)
        return heard

    def sent(self, body: bytes) -> None:
        """Hear the body of the request."""
        self._fill(self.request, (body,))

    def sends_on(self, piece: bytes) -> None:
        """Hear some more of the request's body."""
        self._append(self.request, piece)

    def answers_on(self, piece: bytes) -> None:
        """Hear some more of the answer's body."""
        if self.answer is not None:
            self._append(self.answer, piece)

    def answered(self, headers: Mapping[str, str], parts: Sequence[bytes]) -> None:
        """Hear the answer."""
        self.answer = self.hold(headers, parts)

    def asks(self, call: Timed, url: str) -> Take:
        """Begin to hear one try to call v2."""
        take = Take(self, call, url)
        self.takes.append(take)
        return take

    def end(self, secrets: tuple[Secret, ...]) -> None:
        """Give the room back: what is held from here on is counted by whoever holds it."""
        self.secrets = secrets
        self._room.left += self._size

    def _append(self, heard: Heard, piece: bytes) -> None:
        heard.size += len(piece)
        if heard.left_out is not None:
            return
        room = BODY_KEPT - len(heard.body)
        kept = min(len(piece), room)
        if self._size + kept > CALL_KEPT or kept > self._room.left:
            heard.left_out = CUT if heard.body else NO_ROOM
            return
        if kept < len(piece):
            heard.left_out = CUT
        heard.body += piece[:kept]
        self._size += kept
        self._room.left -= kept

    def _fill(self, heard: Heard, parts: Sequence[bytes]) -> None:
        heard.size = sum(map(len, parts))
        kept = min(heard.size, BODY_KEPT)
        if self._size + HEAD + kept > CALL_KEPT or HEAD + kept > self._room.left:
            heard.left_out = NO_ROOM if kept else None
            kept = 0
        elif kept < heard.size:
            heard.left_out = CUT
        if kept:
            heard.body = _beginning(parts, kept)
        self._size += HEAD + kept
        self._room.left -= HEAD + kept


def _beginning(parts: Sequence[bytes], length: int) -> bytes:
    if len(parts) == 1:
        return bytes(parts[0][:length])
    held = bytearray()
    for part in parts:
        held += part[: length - len(held)]
        if len(held) == length:
            break
    return bytes(held)
