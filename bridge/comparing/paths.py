"""Places in documents: how they are spelled, and which of them an operator has ignored.

What is at a place is not known here.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_NAME = "[A-Za-z_][A-Za-z0-9_.-]{0,63}"
_PLAIN_NAME = re.compile(_NAME)
_STEP = re.compile(rf"(?:{_NAME}|\*)")
_LAST_STEP = re.compile(rf"(?:@?{_NAME}|@?\*|order\(\)|count\(\))")

LONGEST = 500
"""Characters of a path."""

ORDER = "order()"
"""The last step of the path of an order."""

COUNT = "count()"
"""The last step of the path of a number of items."""

Steps = tuple[str, ...]


class WrongPath(ValueError):
    """A text is no path; `str()` is one line for the operator."""


class _Path(NamedTuple):
    steps: Steps
    is_anywhere: bool
    """Whether it may begin at any element, and not only at the root."""

    def matches(self, place: Steps) -> bool:
        """Tell whether the path leads to just this place."""
        beyond = len(place) - len(self.steps)
        if beyond < 0 or (beyond and not self.is_anywhere):
            return False
        return all(map(_fits, self.steps, place[beyond:]))


def _fits(step: str, name: str) -> bool:
    if step == "@*":
        return name.startswith("@")
    return step == name or (step == "*" and not name.startswith("@") and not name.endswith("()"))


class Paths:
    """A set of paths. An element at one of them belongs to it with all that is in it.

    A path is `/` and names with `/` between them, from the root on: `/payments/payment/notes`. With
    `//` it begins at any element: `//updated-at`. `*` is any one name. The last step may be an
    attribute (`//@type`), the order of what is in an element (`/payments/order()`), or the number
    of items in a list without ids (`count()`).
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        """Read them.

        Raises:
            WrongPath: one of them is none.
        """
        self.texts = tuple(paths)
        """As they were spelled."""
        self._paths = tuple(map(_read, self.texts))

    def has(self, place: Steps) -> bool:
        """Tell whether a path leads to just this place, given as the names from the root on."""
        return any(path.matches(place) for path in self._paths)


def _read(text: str) -> _Path:
    steps = text.lstrip("/").split("/")
    slashes = len(text) - len(text.lstrip("/"))
    *inner, last = steps
    if (
        len(text) > LONGEST
        or slashes not in {1, 2}
        or not all(map(_STEP.fullmatch, inner))
        or not _LAST_STEP.fullmatch(last)
    ):
        raise WrongPath(
            f"{text[:100]!r} is no path such as /payments/payment/notes, //updated-at, //@type "
            "or /payments/order()"
        )
    return _Path(tuple(steps), slashes == 2)


def told(name: str) -> str:
    """Return the name of a step, or `…` for one that is none of v1's kind."""
    if name in {ORDER, COUNT} or _PLAIN_NAME.fullmatch(name.removeprefix("@")):
        return name
    return "@…" if name.startswith("@") else "…"


def spelled(place: Steps) -> str:
    """Spell a place."""
    return "/" + "/".join(place)


NOTHING = Paths()
"""No path at all."""
