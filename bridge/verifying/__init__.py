"""Whether the bridge answers recorded calls as v1 did: recordings, how they are asked, the outcome.

How two answers are compared is `bridge.comparing`'s business; how it is told, the command's.
"""
