"""What v1 answers to a GET, asked by the bridge and for nobody but the comparison."""

import asyncio
from contextlib import aclosing

from bridge.comparing import Answer, Side
from bridge.comparing.documents import LONGEST
from bridge.origin.client import OriginClient, Outgoing, pieces
from bridge.origin.health import Origins
from bridge.origin.place import Template
from bridge.server.shadow.asked import Asked, Overhearing, Skipped, SkipReason, TooLarge
from bridge.tape import Room
from bridge.upstream.breaker import State
from bridge.v2.errors import UpstreamError

_ASKED_ANEW = frozenset({
    "accept-encoding", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "range",
})  # fmt: skip
"""What makes an answer another than the whole document (RFC 9110, sections 12.5.3, 13.1, 14.2)."""


class V1Side:
    """Asks v1 as its clients do, where it is not in trouble; what becomes of that tells nothing."""

    def __init__(
        self, client: OriginClient, template: Template, origins: Origins, seconds: float
    ) -> None:
        """Ask by `client` within `seconds`; `origins` know how v1 fares."""
        self._client = client
        self._template = template
        self._origins = origins
        self._seconds = seconds

    async def answer(self, asked: Asked) -> Answer:
        """Return what v1 answers, whatever that is.

        Raises:
            Skipped: it is in trouble, or does not answer.
            TooLarge: there is too much of it to be compared.
        """
        place = self._template.place(asked.subdomain)
        if place is None:
            raise Skipped(SkipReason.FAILED)
        origin = self._origins.of(place)
        if origin.is_gone or origin.breaker.state is not State.CLOSED:
            raise Skipped(SkipReason.FAILED)
        fields = [each for each in asked.fields if each[0].lower() not in _ASKED_ANEW]
        outgoing = Outgoing("GET", asked.target, [*fields, ("Accept-Encoding", "identity")])
        overheard = Overhearing(Room(2 * LONGEST))
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._client.send(
                    place, outgoing, asyncio.timeout(None), self._seconds
                )
                try:
                    headers = response.headers
                    overheard.began(
                        response.status,
                        headers.get("Content-Type"),
                        headers.get("Content-Encoding"),
                    )
                    async with aclosing(pieces(response, place, self._seconds)) as body:
                        async for piece in body:
                            overheard.heard(piece)
                            if overheard.is_cut:
                                raise TooLarge(Side.V1)
                finally:
                    response.close()
        except (UpstreamError, TimeoutError):
            raise Skipped(SkipReason.FAILED) from None
        return overheard.answer()
