"""Legacy paths: tolerated spellings set right, and matched against templates such as
`/invoice/{invoice_id}/messages`. Which templates there are is not known here.
"""

import re
from urllib.parse import unquote

from bridge.v1.notes import NoteCode, Notes

MAX_ID = 2**63 - 1

_HASH_ID = re.compile(r"#([0-9]+)|#\{([0-9]+)\}")
_WORD = re.compile(r"[a-z_]{1,30}")
_ID = re.compile(r"[0-9]{1,30}")


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
    return tuple(_without_hash(unquote(part), notes) for part in path.split("/")[1:])


def _without_hash(segment: str, notes: Notes) -> str:
    if (found := _HASH_ID.fullmatch(segment)) is None:
        return segment
    notes.add(NoteCode.HASH_IN_ID, "path")
    return found[1] or found[2]


def read_id(text: str) -> int | None:
    """Read an id, a positive integer up to 2^63-1; None for anything else."""
    if _ID.fullmatch(text) and 1 <= (value := int(text)) <= MAX_ID:
        return value
    return None


class Template:
    """A path whose `{…}` segments are ids."""

    def __init__(self, path: str) -> None:
        """Read a template such as `/invoice/{invoice_id}/messages`."""
        self._parts = tuple(path.split("/")[1:])

    def ids(self, parts: tuple[str, ...]) -> dict[str, int] | None:
        """Return the ids in `parts` by name, None when this is not the template of `parts`."""
        if len(parts) != len(self._parts) or not self.covers(parts):
            return None
        ids = {}
        for name, part in zip(self._parts, parts, strict=True):
            if name.startswith("{"):
                if (value := read_id(part)) is None:
                    return None
                ids[name.strip("{}")] = value
        return ids

    def covers(self, parts: tuple[str, ...]) -> bool:
        """Tell whether `parts` lie at or below this path, whatever stands for its ids."""
        return len(parts) >= len(self._parts) and all(
            own.startswith("{") or own == part
            for own, part in zip(self._parts, parts, strict=False)
        )


def anonymous(parts: tuple[str, ...]) -> str:
    """Return the path with everything but plain words left out, fit for a log."""
    return "".join(f"/{part}" if _WORD.fullmatch(part) else "/{…}" for part in parts)
