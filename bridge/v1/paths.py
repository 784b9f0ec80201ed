"""Legacy paths: tolerated spellings set right, and matched against templates such as
`/invoice/{invoice_id}/messages`. Which templates there are is not known here.
"""

import re
from urllib.parse import unquote

from bridge.excerpt import excerpt
from bridge.v1.notes import NoteCode, Notes

MAX_ID = 2**63 - 1

_HASH_ID = re.compile(r"#([0-9]+)|#\{([0-9]+)\}")
_WORD = re.compile(r"[a-z_]{0,30}")
_MOST_DIGITS = 30
"""Of an id, with leading zeros: what is longer is not even read."""


def segments(path: str, notes: Notes) -> tuple[str, ...]:
    """Split a percent-encoded path, setting right what schemas/README.md, "Paths", tolerates.

    A doubled first slash, one trailing slash, an `.xml` suffix, and an id written `#1420` or
    `#{1420}` (the `#{…}` of v1's documentation taken literally) are noted and set right.
    """
    if path.startswith("//"):
        path = path[1:]
        notes.add(NoteCode.DOUBLE_SLASH, "path")
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
        notes.add(NoteCode.TRAILING_SLASH, "path")
    if path.endswith(".xml"):
        path = path[: -len(".xml")]
        notes.add(NoteCode.XML_SUFFIX, "path")
    parts = path.split("/")[1:]
    if "%" in path or "#" in path:
        parts = [_without_hash(unquote(part), notes) for part in parts]
    return tuple(parts)


def _without_hash(segment: str, notes: Notes) -> str:
    if (found := _HASH_ID.fullmatch(segment)) is None:
        return segment
    notes.add(NoteCode.HASH_IN_ID, "path")
    return found[1] or found[2]


def read_id(text: str) -> int | None:
    """Read an id, a positive integer up to 2^63-1; None for anything else."""
    if text.isdigit() and text.isascii() and len(text) <= _MOST_DIGITS:
        return value if 1 <= (value := int(text)) <= MAX_ID else None
    return None


Shape = tuple[str | None, ...]
"""The segments of a path, None for each id."""


def shape(parts: tuple[str, ...]) -> tuple[Shape, list[int]]:
    """Return the shape of `parts`, and the ids in it."""
    found: list[str | None] = []
    ids: list[int] = []
    for part in parts:
        # Most segments are words, and need not be read.
        if "0" <= part[:1] <= "9" and (id_ := read_id(part)) is not None:
            ids.append(id_)
            found.append(None)
        else:
            found.append(part)
    return tuple(found), ids


def template(path: str) -> tuple[Shape, tuple[str, ...]]:
    """Return the shape of a path such as `/invoice/{invoice_id}/messages`, and its ids' names."""
    parts = path.split("/")[1:]
    names = tuple(part.strip("{}") for part in parts if part.startswith("{"))
    return tuple(None if part.startswith("{") else part for part in parts), names


def covers(above: Shape, parts: tuple[str, ...]) -> bool:
    """Tell whether `parts` lie at or below a path of this shape, whatever stands for its ids."""
    return len(parts) >= len(above) and all(
        own is None or own == part for own, part in zip(above, parts, strict=False)
    )


def anonymous(parts: tuple[str, ...]) -> str:
    """Return the path with everything but plain words left out, fit for a log."""
    return excerpt("".join(f"/{part}" if _WORD.fullmatch(part) else "/{…}" for part in parts))
