"""The two sides of a cut-over. What each of them does is written elsewhere."""

from enum import StrEnum


class Side(StrEnum):
    """Who answers a call."""

    V1 = "v1"
    """It is passed through."""
    BRIDGE = "bridge"
    """It is translated."""
