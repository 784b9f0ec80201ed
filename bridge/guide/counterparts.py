"""What takes the place of the calls of v1 that the bridge does not translate.

The table is `counterparts.toml`. What is translated is told by the resources' own tables: see
`plan`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import msgspec


class Counterpart(msgspec.Struct, frozen=True):
    """The v2 calls that do what a call of v1 did."""

    v1: str
    """Method and path of v1, ids in braces."""
    v2: tuple[str, ...]
    """Methods and paths below v2's base URL, in the order in which to call them; none: v2 has no
    such thing."""
    remark: str = ""
    """What differs beside names and nesting."""
    also: tuple[str, ...] = ()
    """Methods and paths by which clients are known to have made it, too."""
    form: str = ""
    """The field of a form that the last v2 call takes in the place of JSON, as curl has it."""


class Table(msgspec.Struct, frozen=True):
    """`counterparts.toml`."""

    call: tuple[Counterpart, ...]
    roots: Mapping[str, tuple[str, ...]]
    spellings: Mapping[str, str]


@cache
def table() -> Table:
    """Return the table, read once."""
    text = files(__package__).joinpath("counterparts.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Table)


def counterpart_of(method: str, path: str) -> Counterpart | None:
    """Return what takes the place of a call to a path of v1; None: it has no root of v1's.

    A segment in braces stands for anything: an id, or what was no plain word.
    """
    known = table()
    first, *rest = path.strip("/").split("/")
    parts = [known.spellings.get(first, first), *rest]
    method = "GET" if method == "HEAD" else method
    for row in known.call:
        for spelled in (row.v1, *row.also):
            verb, _, template = spelled.partition(" ")
            if verb == method and _is_at(parts, template.strip("/").split("/")):
                return row
    if (about := known.roots.get(parts[0])) is None:
        return None
    return Counterpart(f"{method} {path}", about, "v1 documented no such call.")


def _is_at(parts: Sequence[str], template: Sequence[str]) -> bool:
    return len(parts) == len(template) and all(
        (part.startswith("{") or part.isdecimal()) if own.startswith("{") else part == own
        for part, own in zip(parts, template, strict=True)
    )
