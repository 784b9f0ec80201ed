"""How v2 calls are made when v2 misbehaves: retries, breakers, throttling, shared calls.

What a call says is written elsewhere; how one travels, in `bridge.v2.client`.
"""
