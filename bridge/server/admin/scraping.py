"""What Prometheus asks of the admin side. What it is told is written in `bridge.server.metrics`."""

from collections.abc import Sequence

from aiohttp import web
from aiohttp.hdrs import CONTENT_TYPE

from bridge.server.admin.requests import AdminRequest, Route
from bridge.server.metrics import Metrics


def metrics_routes(metrics: Metrics) -> Sequence[Route]:
    """Return `/metrics`, in OpenMetrics for those whose `Accept` asks for it, else as text."""

    async def scrape(request: AdminRequest) -> web.Response:
        text, content_type = await metrics.text(",".join(request.headers.getall("Accept", ())))
        # As a header: aiohttp's own parameter takes no version.
        return web.Response(body=text, headers={CONTENT_TYPE: content_type})

    return [Route("GET", "/metrics", scrape)]
