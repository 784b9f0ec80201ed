"""The files attached to expenses: on disk while the sandbox runs, never whole in memory."""

import asyncio
from collections.abc import AsyncIterator
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

from aiohttp import BodyPartReader

from bridge.sandbox.errors import NotFoundError

PIECE_BYTES = 64 * 1024

Place = tuple[int, int]
"""An account and an expense."""


class Receipt(NamedTuple):
    """A file, and what it was said to be."""

    content_type: str
    length: int
    file: BinaryIO

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the file, piece by piece."""
        for start in range(0, self.length, PIECE_BYTES):
            yield await asyncio.to_thread(self._piece, start)

    def _piece(self, start: int) -> bytes:
        self.file.seek(start)
        return self.file.read(PIECE_BYTES)


class Receipts:
    """One file an expense at most."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: dict[Place, Receipt] = {}

    async def keep(self, place: Place, content_type: str, part: BodyPartReader) -> None:
        """Keep a file as it comes, in place of the one that was there."""
        file = TemporaryFile()  # noqa: SIM115 - it is open as long as it is kept
        length = 0
        try:
            while piece := await part.read_chunk(PIECE_BYTES):
                length += await asyncio.to_thread(file.write, piece)
        except BaseException:
            file.close()
            raise
        self._forget(place)
        self._kept[place] = Receipt(content_type, length, file)

    def find(self, place: Place) -> Receipt:
        """Return a file.

        Raises:
            NotFoundError: the expense has none.
        """
        if place not in self._kept:
            raise NotFoundError("Not found")
        return self._kept[place]

    def close(self) -> None:
        """Forget all files."""
        for place in list(self._kept):
            self._forget(place)

    def _forget(self, place: Place) -> None:
        receipt = self._kept.pop(place, None)
        if receipt is not None:
            receipt.file.close()
