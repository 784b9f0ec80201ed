"""Both sides of a legacy call, as values: what was said to the client, and what was said to v2.

Who wants them kept, and for how long, is written in `capture`; what is left of a text, in
`redaction`.
"""

import zlib

import msgspec

LONGEST = 32 * 1024 * 1024
"""Bytes of an exchange, unpacked; what is kept of one call has some 4 MiB (`bridge.tape`)."""

Headers = tuple[tuple[str, str], ...]


class Message(msgspec.Struct, omit_defaults=True):
    """A request or an answer. Holds no secret: `REMOVED` stands where one was."""

    headers: Headers
    body: bytes
    size: int
    """Bytes of the body as it travelled."""
    left_out: str | None = None
    """Why `body` is not all of it: `cut`, `no room`, or `unreadable`. None: it is."""


class UpstreamExchange(msgspec.Struct, omit_defaults=True):
    """One try to call v2."""

    method: str
    url: str
    status: int | None
    error: str | None
    started: float
    """Milliseconds after the legacy call began."""
    milliseconds: float | None
    request: Message | None
    """None: it did not leave."""
    answer: Message | None
    shared: bool = False
    """Whether it was made for another legacy call, which asked the same at the same time."""


class OtherAnswer(msgspec.Struct, omit_defaults=True):
    """What the side has answered that the client was not given the answer of."""

    side: str
    """`v1` or `bridge`."""
    status: int
    answer: Message


class Exchange(msgspec.Struct, omit_defaults=True):
    """A legacy call with the v2 calls that were made for it."""

    method: str
    url: str
    status: int | None
    began: float
    """Milliseconds since 1970, UTC."""
    milliseconds: float
    request: Message
    answer: Message | None
    upstream: list[UpstreamExchange]
    http: str | None = None
    """The version that the client spoke, such as `1.1`."""
    shared_with: str | None = None
    """The request id of the call whose answer this one got, too; v2 was asked for that one."""
    raw: bool = False
    """Whether addresses, names and texts are as they were; else stand-ins have their places."""
    other: OtherAnswer | None = None
    """What it was compared with; None: it was not, or not yet."""


def pack(exchange: Exchange) -> bytes:
    """Return the exchange as it is kept: MessagePack, compressed by zlib."""
    return zlib.compress(_encoder.encode(exchange))


def unpack(kept: bytes) -> Exchange:
    """Read what `pack` has made.

    Raises:
        ValueError: it is no exchange, or larger than one can be: the file may be somebody else's.
    """
    try:
        unpacking = zlib.decompressobj()
        told = unpacking.decompress(kept, LONGEST)
        if not unpacking.eof:
            raise ValueError("not an exchange as it is kept: it is too long, or cut")
        return _decoder.decode(told)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError("not an exchange as it is kept") from error


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Exchange)
