"""Heads of requests as bytes: where one ends, and what old runtimes write that can be put right.

What a head means is for aiohttp's parser to say.
"""

import re

from bridge.v1.notes import NoteCode

_WRAPPED = re.compile(
    rb"(?i)(\nauthorization:[ \t]*basic[ \t]+\(?[a-z0-9+/]{60,76})"
    rb"((?:\r?\n[a-z0-9+/]{60,76})*\r?\n[a-z0-9+/]{1,76}={0,2}\)?)(?=\r?\n)"
)
"""Credentials as base64 encoders of the time wrapped them: 60 characters a line in Ruby, 64 by PEM
(RFC 7468), 76 by MIME (RFC 2045)."""

_LINE_BREAKS = re.compile(rb"[\r\n]+")


def end_of_head(data: bytes, searched: int = 0) -> int:
    """Return where the head that begins `data` ends, or -1 if it has not come to its end.

    RFC 9112, section 2.2: a line may end in a lone LF. It does not begin to end in the first
    `searched` bytes.
    """
    end = data.find(b"\n\r\n", searched)
    bare = data.find(b"\n\n", searched, end + 1 if end >= 0 else len(data))
    if bare >= 0:
        return bare + 2
    return end + 3 if end >= 0 else -1


def has_bare_line_feeds(head: bytes) -> bool:
    """Tell whether some line ends in a lone LF."""
    return head.count(b"\n") != head.count(b"\r\n")


def repaired(head: bytes) -> tuple[bytes, tuple[NoteCode, ...]]:
    """Return a head that has bare LFs as it was meant, and the codes of the notes on that.

    See schemas/README.md, "Heads". Only what can hide no other field from whoever forwarded it is
    put right: credentials that were wrapped, whose rest is a line that has no colon; and a head in
    which every line ends in LF. Any other bare LF is left for the parser to refuse.
    """
    notes: list[NoteCode] = []
    unwrapped = _WRAPPED.sub(lambda found: found[1] + _LINE_BREAKS.sub(b"", found[2]), head)
    if unwrapped != head:
        notes.append(NoteCode.CREDENTIALS_WRAPPED)
    if b"\r" not in unwrapped:
        unwrapped = unwrapped.replace(b"\n", b"\r\n")
        notes.append(NoteCode.LINE_FEEDS)
    return unwrapped, tuple(notes)
