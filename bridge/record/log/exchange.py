"""Both sides of a legacy call, as values: what was said to the client, and what was said to v2.

Who wants them kept, for how long, and what is left of a text, is written in `capture`.
"""

import msgspec

Headers = tuple[tuple[str, str], ...]


class Message(msgspec.Struct):
    """A request or an answer. Holds no secret: headers that carry one have stand-ins."""

    headers: Headers
    body: bytes
    size: int
    """Bytes of the body as it travelled; more than `body` has, if that was cut."""


class UpstreamExchange(msgspec.Struct):
    """One v2 call."""

    method: str
    url: str
    status: int | None
    error: str | None
    started: float
    """Milliseconds after the legacy call began."""
    milliseconds: float | None
    request: Message
    answer: Message | None


class Exchange(msgspec.Struct):
    """A legacy call with the v2 calls that were made for it."""

    method: str
    url: str
    status: int | None
    request: Message
    answer: Message | None
    upstream: list[UpstreamExchange]
    raw: bool = False
    """Whether addresses, names and texts are as they were; else stand-ins have their places."""
