"""The process that compares answers: pairs of them on standard input, what is found on standard
output, each with its length before it. It has nothing of the bridge's but the code.
"""

import resource
import signal
import sys
from contextlib import suppress
from typing import BinaryIO, NamedTuple

import msgspec

from bridge.comparing import Answer, Comparison, Paths, compare

LENGTH = 8
"""Bytes before each message that say how long it is, in network order."""

MOST_MEMORY = 512 * 1024 * 1024
"""Bytes: two answers of the longest kind take a quarter of it."""


class Pair(NamedTuple):
    """What is asked: the answers of both sides, and the paths at which they may differ."""

    v1: Answer
    bridge: Answer
    ignored: tuple[str, ...]


def framed(message: Pair | Comparison) -> bytes:
    """Return a message as it is written."""
    octets = msgspec.msgpack.encode(message, enc_hook=dict)  # of views of one
    return len(octets).to_bytes(LENGTH, "big") + octets


def _serve(asked: BinaryIO, told: BinaryIO) -> None:
    """Compare until there is no more to compare, or whoever asks is gone."""
    while length := asked.read(LENGTH):
        pair = msgspec.msgpack.decode(asked.read(int.from_bytes(length, "big")), type=Pair)
        told.write(framed(compare(pair.v1, pair.bridge, Paths(pair.ignored))))
        told.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the bridge's business
    with suppress(OSError, ValueError):  # a service manager may forbid it
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    _serve(sys.stdin.buffer, sys.stdout.buffer)
