"""Traces by OpenTelemetry: a server span a legacy call, and one for each v2 call within it.

Names and attributes are those of the semantic conventions for HTTP spans (OpenTelemetry, "Semantic
conventions for HTTP spans", stable). No attribute has a body, a query or a header but User-Agent.
Spans leave in batches, by a thread of their own: no call waits for whoever collects them.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes import (
    client_attributes as client,
)
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bridge import __version__
from bridge.identity.hosts import without_port
from bridge.record.log.events import CallEvent
from bridge.upstream.sharing import Abandoned
from bridge.upstream.traces import CallSpan, Trace

_LONGEST_HEADER = 512
"""Characters of `traceparent` and `tracestate` (W3C Trace Context, section 3.3.1.5)."""

_LAST_SPANS = 5.0
"""Seconds that the last spans have to leave when the bridge stops."""

_OURS = "harvest_bridge."
"""Before the names of attributes that no convention has."""

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
"""Those that the conventions know (RFC 9110, RFC 5789); any other is `_OTHER`."""

_w3c = TraceContextTextMapPropagator()


class Tracer:
    """Begins the traces of legacy calls."""

    def __init__(self, provider: TracerProvider, upstream: str) -> None:
        """Hand spans to `provider`; `upstream` is v2's base URL."""
        self._tracer = provider.get_tracer("harvest-bridge", __version__)
        self._upstream = upstream
        v2 = urlsplit(upstream)
        self._v2 = {
            server_attributes.SERVER_ADDRESS: v2.hostname or "",
            server_attributes.SERVER_PORT: v2.port or (443 if v2.scheme == "https" else 80),
        }

    def begin(self, method: str, headers: CIMultiDictProxy[str]) -> "CallTrace":
        """Begin that of a call, within its client's own trace if its head tells of one."""
        method = method if method in _METHODS else _OTHER
        span = self._tracer.start_span(
            _named(method, None),
            _w3c.extract(_told(headers)) if "traceparent" in headers else None,
            SpanKind.SERVER,
            {http_attributes.HTTP_REQUEST_METHOD: method},
        )
        return CallTrace(self, span, method)

    def ask(self, trace: "CallTrace", method: str, path: str, again: int) -> "_V2Span":
        """Begin a v2 call of a trace; `again` counts the earlier tries."""
        attributes: dict[str, Any] = {
            **self._v2,
            http_attributes.HTTP_REQUEST_METHOD: method,
            url_attributes.URL_FULL: self._upstream + path,
        }
        if again:
            attributes[http_attributes.HTTP_REQUEST_RESEND_COUNT] = again
        span = self._tracer.start_span(method, trace.context, SpanKind.CLIENT, attributes)
        return _V2Span(span)

    def wait(self, trace: "CallTrace", method: str, path: str, links: list[Link]) -> "_V2Span":
        """Begin to wait for a v2 call of another trace; nothing is sent for this one."""
        attributes = {
            http_attributes.HTTP_REQUEST_METHOD: method,
            url_attributes.URL_FULL: self._upstream + path,
        }
        span = self._tracer.start_span(
            f"{method} shared", trace.context, SpanKind.INTERNAL, attributes, links
        )
        return _V2Span(span)


class CallTrace:
    """The trace of a legacy call."""

    __slots__ = ("_again", "_asked", "_method", "_span", "_tracer", "_v2", "context", "latest")

    def __init__(self, tracer: Tracer, span: Span, method: str) -> None:
        """Stand for `span`."""
        self._tracer = tracer
        self._span = span
        self._method = method
        self.context = set_span_in_context(span)
        self.latest = span
        """That of the latest v2 call; before there is one, the call's own."""
        self._asked = ("", "", "")
        self._again = 0
        self._v2: _V2Span | None = None
        """The one that was begun last."""

    def asks(self, method: str, path: str, query: str) -> CallSpan:
        """Begin a v2 call, or a further try of the latest."""
        asked = (method, path, query)
        self._again = self._again + 1 if asked == self._asked else 0
        self._asked = asked
        self._v2 = made = self._tracer.ask(self, method, path, self._again)
        self.latest = made.span
        return made

    def follows(self, method: str, path: str, other: Trace | None) -> CallSpan:
        """Begin to wait for a v2 call that is made for another legacy call, and link to it."""
        links = [Link(other.latest.get_span_context())] if isinstance(other, CallTrace) else []
        self._v2 = made = self._tracer.wait(self, method, path, links)
        return made

    def shares(self, other: Trace | None) -> None:
        """Link to the legacy call whose answer this one gets, too."""
        if isinstance(other, CallTrace):
            self._span.add_link(other._span.get_span_context())  # noqa: SLF001 - its own kind

    def ended(self, call: CallEvent | None) -> None:
        """End it, with what the log knows of the call; None: nothing."""
        if self._v2 is not None and self._v2.span.is_recording():
            self._v2.ended(None, Abandoned.__name__)  # it was not waited for to its end
        span = self._span
        if call is not None and span.is_recording():
            span.update_name(_named(self._method, call.route))
            span.set_attributes(dict(_attributes(call)))
            if call.status is None or call.status >= 500:
                span.set_status(StatusCode.ERROR)
                span.set_attribute(error_attributes.ERROR_TYPE, _error_type(call))
        span.end()


class _V2Span:
    """A v2 call, or the waiting for one."""

    __slots__ = ("headers", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.headers: dict[str, str] = {}
        _w3c.inject(self.headers, set_span_in_context(span))

    def ended(self, status: int | None, error: str | None) -> None:
        if status is not None:
            self.span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, status)
        if error is not None or (status or 0) >= 400:
            self.span.set_status(StatusCode.ERROR)
            self.span.set_attribute(error_attributes.ERROR_TYPE, error or str(status))
        self.span.end()


_OTHER = "_OTHER"


def _named(method: str, route: str | None) -> str:
    """Return a span's name (section "Name"): a path would be a name of its client's."""
    word = "HTTP" if method == _OTHER else method
    return word if route is None else f"{word} {route}"


def _told(headers: CIMultiDictProxy[str]) -> Mapping[str, list[str]]:
    """Return what a head tells of a trace, but for what is too long to be that."""
    told = {name: headers.getall(name, []) for name in ("traceparent", "tracestate")}
    return {name: texts for name, texts in told.items() if sum(map(len, texts)) <= _LONGEST_HEADER}


def _error_type(call: CallEvent) -> str:
    """Return the class of the failure, or the status: what is behind a cause's colon is words."""
    return (call.cause or str(call.status)).partition(":")[0]


def _attributes(call: CallEvent) -> Iterator[tuple[str, Any]]:
    told = {
        http_attributes.HTTP_ROUTE: call.route,
        http_attributes.HTTP_RESPONSE_STATUS_CODE: call.status,
        # Without ids, as the log has it: what is no route may hold anything.
        url_attributes.URL_PATH: call.route or call.path or "/",
        url_attributes.URL_SCHEME: "http" if call.tls is None else "https",
        network_attributes.NETWORK_PROTOCOL_VERSION: call.http,
        server_attributes.SERVER_ADDRESS: call.host and without_port(call.host),
        client.CLIENT_ADDRESS: call.address,
        user_agent_attributes.USER_AGENT_ORIGINAL: call.user_agent,
        _OURS + "request_id": call.request_id,
        _OURS + "integration": call.integration,
        _OURS + "account_id": call.account_id,
        _OURS + "dialect": call.dialect,
        _OURS + "outcome": call.outcome,
        _OURS + "refusal": call.refusal,
        _OURS + "problem": call.problem,
        _OURS + "shared_with": call.shared_with,
        _OURS + "notes": [note.code for note in call.notes] or None,
    }
    for name, value in told.items():
        if value is not None:
            yield name, value


@asynccontextmanager
async def tracing(upstream: str) -> AsyncIterator[Tracer]:
    """Send spans until the end of the block to where the OTEL_ variables say, by OTLP over HTTP.

    At the end, the last ones have `_LAST_SPANS` seconds to leave.
    """
    # A client that sends nonsense for a trace would fill the log.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    logging.getLogger("opentelemetry.propagators").setLevel(logging.ERROR)
    named = Resource.create({"service.name": "harvest-bridge", "service.version": __version__})
    provider = TracerProvider(
        # What the operator says goes before.
        resource=named.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Tracer(provider, upstream)
    finally:
        await _last_spans(provider)


async def _last_spans(provider: TracerProvider) -> None:
    """Let the last spans leave; a collector that does not answer keeps nobody from stopping."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(over.set)

    threading.Thread(target=shut_down, name="last spans", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_SPANS):
            await over.wait()
