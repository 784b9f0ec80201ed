"""What v2 says when it refuses, in one text, whatever JSON it says it in.

Which of it a client is told is the business of `bridge.resources.failures`.
"""

from collections.abc import Iterator

from bridge.v2.decoding import decode
from bridge.v2.errors import UpstreamFault

_SPOKEN = ("message", "error_description", "errors", "error")
"""The members that hold words, the likeliest first: v2's API, its OAuth layer, and Rails."""

LONGEST = 64 * 1024
"""Bytes of a refusal in which words are looked for: v2's own have less than 200."""

_DEPTH = 4
"""Objects and lists in each other that words are looked for in: v2 documents none."""


def words_of(body: bytes) -> str | None:
    """Return the words in the body of a refusal; None if it has none, is no object, or is too long.

    Of the members that hold words, the first that is not blank counts. A list's words are put
    together by commas, and an object's by semicolons, each behind its member's name. What is in
    other members is never told: who echoes a call puts its token there.
    """
    if len(body) > LONGEST:
        return None
    try:
        said = decode(body, dict[str, object])
    except UpstreamFault:
        return None
    return next(_spoken(said, _DEPTH), None)


def _spoken(said: dict[str, object], depth: int) -> Iterator[str]:
    return (words for name in _SPOKEN if (words := _words(said.get(name), depth)))


def _words(value: object, depth: int) -> str:
    if isinstance(value, str):
        return value.strip()
    if depth == 0:
        return ""
    if isinstance(value, list):
        return ", ".join(filter(None, (_words(each, depth - 1) for each in value)))
    if isinstance(value, dict):
        named = ((name, _words(each, depth - 1)) for name, each in value.items())
        return next(_spoken(value, depth - 1), "") or "; ".join(
            f"{name}: {words}" for name, words in named if words
        )
    return ""
