"""Shadow: the side that did not answer a call is asked as well, and the two answers are compared.

`asked` has what is kept of a call for that, `bridge_side` the bridge's answer without a client, and
`running` what is looked at when. Who answers a call, and of whose calls a share is looked at, is
said by policies.
"""

from bridge.server.shadow.asked import Asked, AskV1, Look, Overhearing, Skipped, SkipReason
from bridge.server.shadow.bridge_side import BridgeSide
from bridge.server.shadow.running import Shadow, ShadowLimits

__all__ = [
    "AskV1",
    "Asked",
    "BridgeSide",
    "Look",
    "Overhearing",
    "Shadow",
    "ShadowLimits",
    "SkipReason",
    "Skipped",
]
