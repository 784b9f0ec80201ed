"""v1's origin from here: whether it can be reached, its certificate is trusted, and it is no loop."""

import asyncio
from collections.abc import Collection, Sequence

from bridge.checking.findings import Finding, ok, warning, wrong
from bridge.identity.book import Row
from bridge.origin.client import OriginClient, Outgoing
from bridge.origin.loops import Own, loop_of
from bridge.origin.place import Place, Template
from bridge.settings import Settings, where
from bridge.v2.errors import UpstreamError

NAME = "legacy origin"

PATIENCE = 15.0
"""Seconds for one call."""

MOST = 5
"""Origins that are looked at: where the template has a subdomain, one for each of the book's."""


async def check_origin(settings: Settings, rows: Collection[Row]) -> Sequence[Finding]:
    """Ask v1 for its own path without a credential; whatever it answers, it is there."""
    if settings.legacy_origin is None:
        return []
    template = Template(settings.legacy_origin)
    subdomains = sorted({row.subdomain for row in rows} | {settings.subdomain or ""})
    places = {place: None for each in subdomains if (place := template.place(each or None))}
    if not places:
        told = f"{template}: no subdomain is known to look it up by"
        return [warning(NAME, told, f"set {where('subdomain')}, to try one")]
    client = OriginClient()
    try:
        own = Own(settings.host, settings.port)
        return [await _check(client, own, place) for place in [*places][:MOST]]
    finally:
        await client.close()


async def _check(client: OriginClient, own: Own, place: Place) -> Finding:
    if said := await loop_of(place, own):
        return wrong(NAME, said, f"let it lead to v1: no hosts entry here {where('legacy_origin')}")
    asked = Outgoing("GET", "/account/who_am_i", [("Accept", "application/xml")])
    try:
        response = await client.send(place, asked, asyncio.timeout(None), PATIENCE)
    except UpstreamError as error:
        mend = f"see to the network, or the URL {where('legacy_origin')}"
        return wrong(NAME, f"{place.url}: {error}", mend)
    response.close()
    if response.status in {404, 410}:
        told = f"{place.url}: answers {response.status} where v1 says who is calling"
        return warning(NAME, told, "v1 may be switched off already: calls to it are 501 then")
    return ok(NAME, f"{place.url}: answers ({response.status})")
