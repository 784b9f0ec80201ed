"""What Prometheus asks of the admin side. What it is told is written in `bridge.server.metrics`."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from aiohttp.hdrs import CONTENT_TYPE

from bridge.server.admin.requests import AdminRequest, Route
from bridge.server.metrics import Metrics


def metrics_routes(metrics: Metrics, look: Callable[[], Awaitable[object]]) -> Sequence[Route]:
    """Return `/metrics`, in OpenMetrics for those whose `Accept` asks for it, else as text.

    Before that, `look` has what `/readyz` checks looked at, where nobody else has just asked.
    """

    async def scrape(request: AdminRequest) -> web.Response:
        await look()
        text, content_type = await metrics.text(",".join(request.headers.getall("Accept", ())))
        # As a header: aiohttp's own parameter takes no version.
        return web.Response(body=text, headers={CONTENT_TYPE: content_type})

    return [Route("GET", "/metrics", scrape)]
