"""A collector of traces: what arrives by OTLP over HTTP, decoded."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.running import running_app


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it arrived; ids are in hexadecimal digits."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    """Empty where there is none."""
    links: tuple[str, ...]
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """What has arrived."""

    spans: list[CollectedSpan] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    received: bytes = b""
    """All bodies, as they were."""

    async def take(self, request: web.Request) -> web.Response:
        """Take some spans."""
        body = await request.read()
        self.received += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = _values(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans.extend(map(_span, scope.spans))
        return web.Response(content_type="application/x-protobuf")

    def only(self, kind: str) -> CollectedSpan:
        """Return the one span of its kind."""
        (found,) = self.all(kind)
        return found

    def all(self, kind: str) -> list[CollectedSpan]:
        """Return the spans of a kind in the order of their ends."""
        return [span for span in self.spans if span.kind == kind]


def _span(span: Any) -> CollectedSpan:
    kinds = type(span).SpanKind
    return CollectedSpan(
        span.name,
        kinds.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple(link.span_id.hex() for link in span.links),
        _values(span.attributes),
        span.status.code == 2,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


Taking = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def collecting(
    patch: pytest.MonkeyPatch, take: Taking | None = None
) -> AsyncIterator[Collector]:
    """Run a collector, to which the OTEL_ variables lead; `take` answers in its place."""
    collector = Collector()
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/v1/traces", take or collector.take)
    async with running_app(app) as url:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield collector
