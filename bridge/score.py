"""How a number of comparisons is told in one line. Who has counted them is not known here."""

from collections.abc import Mapping

MOST_NAMED = 3
"""Places that are named, those with the most calls first."""


def score(
    equal: int, compared: int, calls_by_path: Mapping[str, int], places: int | None = None
) -> str:
    """Tell how many calls were equal, and where how many others differ.

    Such as `4,210 of 4,213 equal; 3 differ at …/body`. A call may differ at several paths; those
    are without ids and positions. `places` is how many there are in all, where only those with the
    most calls are given.
    """
    told = f"{equal:,} of {compared:,} equal"
    ranked = sorted(calls_by_path.items(), key=lambda each: (-each[1], each[0]))
    named = [f"{calls:,} differ at {_short(path)}" for path, calls in ranked[:MOST_NAMED]]
    more = (len(ranked) if places is None else places) - MOST_NAMED
    if more > 0:
        named.append(f"and others at {more:,} more places")
    return "; ".join([told, ", ".join(named)]) if named else told


def _short(path: str) -> str:
    """Return the end of a path: its element, with an attribute's or a list's last step."""
    steps = path.split("/")[1:]
    if not steps:  # no path: `status (v1 200, bridge 401)`
        return path
    kept = 2 if steps[-1].startswith("@") or steps[-1].endswith("()") else 1
    return path if len(steps) <= kept else "…/" + "/".join(steps[-kept:])
