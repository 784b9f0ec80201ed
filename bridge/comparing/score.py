"""How a number of comparisons is told in one line."""

from collections.abc import Mapping

MOST_NAMED = 3
"""Places that are named, those with the most calls first."""


def score(equal: int, compared: int, calls_by_path: Mapping[str, int]) -> str:
    """Tell how many calls were equal, and where how many others differ.

    Such as `4,210 of 4,213 equal; 3 differ at …/body`. A call may differ at several paths; those
    are without ids and positions (`Spot.path`).
    """
    told = f"{equal:,} of {compared:,} equal"
    ranked = sorted(calls_by_path.items(), key=lambda each: (-each[1], each[0]))
    named = [f"{calls:,} differ at {_short(path)}" for path, calls in ranked[:MOST_NAMED]]
    if len(ranked) > MOST_NAMED:
        named.append(f"and others at {len(ranked) - MOST_NAMED:,} more places")
    return "; ".join([told, ", ".join(named)]) if named else told


def _short(path: str) -> str:
    """Return the end of a path: its element, with an attribute's or a list's last step."""
    steps = path.split("/")[1:]
    kept = 2 if steps[-1].startswith("@") or steps[-1].endswith("()") else 1
    return path if len(steps) <= kept else "…/" + "/".join(steps[-kept:])
