"""What v1 answers to a GET, asked by the bridge and for nobody but the comparison."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

from bridge.comparing import Answer
from bridge.comparing.documents import LONGEST
from bridge.origin.client import OriginClient, Outgoing, pieces
from bridge.origin.health import Origins
from bridge.origin.place import Template
from bridge.server.shadow.asked import Asked, Overhearing, Skipped, SkipReason, TooLarge
from bridge.side import Side
from bridge.tape import Room
from bridge.upstream.breaker import State
from bridge.v2.errors import UpstreamError
from bridge.v2.retry_after import read_retry_after, wait_after_429

_ASKED_ANEW = frozenset({
    "accept-encoding", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "range",
})  # fmt: skip
"""What makes an answer another than the whole document (RFC 9110, sections 12.5.3, 13.1, 14.2)."""


class V1Side:
    """Asks v1 as its clients do, where it is not in trouble; what becomes of that tells nothing.

    v1 has a limit of calls as v2 has, which is its clients' (`ShadowLimits.v1_calls`).
    """

    def __init__(
        self,
        client: OriginClient,
        template: Template,
        origins: Origins,
        seconds: float,
        most_calls: int,
    ) -> None:
        """Ask by `client` within `seconds`; `origins` know how v1 fares, and what it was asked."""
        self._client = client
        self._template = template
        self._origins = origins
        self._seconds = seconds
        self._most_calls = most_calls

    async def answer(self, asked: Asked, share: float) -> Answer:
        """Return what v1 answers, whatever that is.

        Args:
            asked: the call.
            share: of the calls that v1 may have, those of clients among them, from how many on
                there is none for such a one.

        Raises:
            Skipped: it is in trouble, does not answer, or must not be asked for clients' sake.
            TooLarge: there is too much of it to be compared.
        """
        place = self._template.place(asked.subdomain)
        if place is None:
            raise Skipped(SkipReason.FAILED)
        origin = self._origins.of(place)
        if origin.is_gone or origin.breaker.state is not State.CLOSED:
            raise Skipped(SkipReason.FAILED)
        recent = self._origins.recent
        if origin.rests or recent.of(place) >= share * self._most_calls:
            raise Skipped(SkipReason.BUDGET)
        recent.add(place)
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
                    wait = read_retry_after(headers.get("Retry-After"), datetime.now(UTC))
                    if response.status == 429 or (response.status == 503 and wait is not None):
                        origin.rest(wait_after_429(wait))
                        raise Skipped(SkipReason.BUDGET)
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
        if overheard.is_coded:  # though it was asked not to
            return await asyncio.to_thread(overheard.answer)
        return overheard.answer()
