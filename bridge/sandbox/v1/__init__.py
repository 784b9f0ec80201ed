"""The sandbox's v1: the API before v2, over the state of the same sandbox, answered as it did.

It follows what was published and recorded of v1, and imports nothing of the bridge's own v1.
"""
