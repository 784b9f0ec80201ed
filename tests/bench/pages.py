"""How long each page of the dashboard takes, from the request to the last byte of its HTML."""

from statistics import median
from time import perf_counter

import aiohttp

from tests.support.dashboards import running_dashboard


async def timed_pages(database: str, rounds: int) -> dict[str, float]:
    """Return the median of the milliseconds that each page takes on this log."""
    took = {}
    async with (
        running_dashboard(database, patience=60.0) as url,
        aiohttp.ClientSession() as session,
    ):

        async def get(path: str) -> bytes:
            async with session.get(url + path) as response:
                response.raise_for_status()
                return await response.read()

        async def first(path: str, *keys: str) -> str:
            async with session.get(f"{url}{path}.json") as response:
                found = await response.json()
            for key in keys:
                found = found[key]
            return str(found[0]["id"])

        integration = await first("/overview", "integrations")
        call = await first("/calls", "page", "rows")
        for path in (
            "/overview", "/overview?days=1", "/overview?days=7", "/overview?days=90",
            "/integrations", f"/integrations/{integration}", "/calls", "/calls?outcome=refused",
            "/calls?note=body-dropped", f"/calls?integration={integration}&status=502",
            f"/calls/{call}", "/switch-off",
        ):  # fmt: skip
            spent = []
            for _ in range(rounds):
                started = perf_counter()
                await get(path)
                spent.append(perf_counter() - started)
            took[path.replace(integration, "{id}").replace(call, "{id}")] = median(spent) * 1000
    return took
