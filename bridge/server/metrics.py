"""What Prometheus is told: calls, counted as they end, and readings, taken when it asks.

What is read of the bridge's parts is listed in `readings`; how an answer travels is the admin
side's business. docs/metrics.md lists every metric.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Literal, NamedTuple

from prometheus_client import GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from bridge.identity.callers import Refusal
from bridge.record.log.events import CallEvent, ConnectionEvent, Ended, Outcome
from bridge.resources.routes import Resource
from bridge.v1.dialects import Dialect
from bridge.v1.notes import NoteCode
from bridge.v1.recipients import RecipientNote

PREFIX = "harvest_bridge_"

OTHER = "other"
"""Stands for all that the bridge has no word of its own for, so that nobody can invent a series."""

NONE = ""
"""A label without a value, which to Prometheus is no label."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_DURATIONS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4)
"""Milliseconds: from what an unchanged list takes to the time that a call has by default."""

_TRANSLATIONS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1e3, 5e3)
"""Milliseconds: from one message to a hundred thousand."""

_PAGES = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 25.0, 100.0, 1e3)
"""v2 calls: from none to as many as a list may have pages."""

_PER_SECOND = 1000.0


class Measure(NamedTuple):
    """A histogram, and of what."""

    name: str
    documentation: str
    bounds: tuple[float, ...]
    """The upper ends of its buckets, in the unit that is observed."""
    unit: str = ""
    scale: float = 1.0
    """How many of what is observed make up one of the unit."""


DURATION = Measure(
    "call_duration_seconds", "How long a legacy call took.", _DURATIONS, "seconds", _PER_SECOND
)
V2 = Measure(
    "call_v2_seconds", "Time of a legacy call in v2 calls.", _DURATIONS, "seconds", _PER_SECOND
)
WAITING = Measure(
    "call_waiting_seconds",
    "Time of a legacy call in which it waited for its turn.",
    _DURATIONS,
    "seconds",
    _PER_SECOND,
)
TRANSLATION = Measure(
    "call_translation_seconds",
    "Time of a legacy call in translation.",
    _TRANSLATIONS,
    "seconds",
    _PER_SECOND,
)
V2_CALLS = Measure("call_v2_calls", "v2 calls that a legacy call asked for.", _PAGES)

_OF_A_ROUTE = (V2, WAITING, TRANSLATION, V2_CALLS)


class _Histogram:
    """What was observed of one series. Of the event loop's thread alone, so it has no lock:
    prometheus-client's own has two, and takes seven times as long.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, measure: Measure) -> None:
        self._bounds = measure.bounds
        self._counts = [0] * (len(measure.bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str], scale: float) -> None:
        bounds = [*(str(bound / scale) for bound in self._bounds), "+Inf"]
        counts = accumulate(self._counts.copy())
        buckets = list(zip(bounds, map(float, counts), strict=True))
        family.add_metric(labels, buckets, self._sum / scale)


class _Route:
    """What is observed of the calls of a method and a route, whatever becomes of them."""

    __slots__ = ("translation", "v2", "v2_calls", "waiting")

    def __init__(self) -> None:
        self.v2 = _Histogram(V2)
        self.waiting = _Histogram(WAITING)
        self.translation = _Histogram(TRANSLATION)
        self.v2_calls = _Histogram(V2_CALLS)

    def all(self) -> tuple[_Histogram, ...]:
        """Return its histograms in the order of `_OF_A_ROUTE`."""
        return self.v2, self.waiting, self.translation, self.v2_calls


class _Series:
    """What is counted of calls that are alike in all labels."""

    __slots__ = ("calls", "duration", "route")

    def __init__(self, duration: _Histogram, route: _Route) -> None:
        self.calls = 0
        self.duration = duration
        self.route = route


_Key = tuple[str, str | None, str | None, str]


COUNTED_AT_ONCE = 128
"""Calls: one after another they take a microsecond each; each at its own end, ten, for by then the
processor has forgotten how."""


class CallCounts(Collector):
    """Counts calls and failed connections as they end, in the event loop's thread alone.

    What it has counted may be collected by another: it copies, in one step, what may grow. Before
    that, `catch_up` has to be called.

    Labels are words of the bridge's own: no client can add a series by what it sends.
    """

    def __init__(self, resources: Iterable[Resource]) -> None:
        """Know the routes of `resources`; all others are `OTHER`."""
        self._routes = frozenset(call.path for each in resources for call in each.calls)
        self._uncounted: list[CallEvent] = []
        self._series: dict[_Key, _Series] = {}
        self._durations: dict[tuple[str, str, str], _Histogram] = {}
        self._by_route: dict[tuple[str, str], _Route] = {}
        self._v2_calls: Counter[tuple[str, int]] = Counter()
        self._v2_shared = 0
        self._answers_shared = 0
        self._refusals: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._failed: Counter[tuple[str, str]] = Counter()

    def ended(self, calls: Iterable[Ended]) -> None:
        """Take calls; they are counted with others, at the latest by `catch_up`."""
        self._uncounted.extend([ended.call for ended in calls])
        if len(self._uncounted) >= COUNTED_AT_ONCE:
            self.catch_up()

    def catch_up(self) -> None:
        """Count what has ended until now."""
        for call in self._uncounted:
            self._count(call)
        self._uncounted.clear()

    def _count(self, call: CallEvent) -> None:
        series = self._series.get((call.method, call.route, call.dialect, call.outcome))
        if series is None:
            series = self._resolve(call)
        series.calls += 1
        series.duration.observe(call.milliseconds)
        route = series.route
        if call.v2_milliseconds is not None:
            route.v2.observe(call.v2_milliseconds)
        if call.waiting_milliseconds is not None:
            route.waiting.observe(call.waiting_milliseconds)
        if call.translation_milliseconds is not None:
            route.translation.observe(call.translation_milliseconds)
        route.v2_calls.observe(len(call.upstream))
        for each in call.upstream:
            if each.shared:
                self._v2_shared += 1
            else:
                self._v2_calls[each.method, each.status or 0] += 1
        if call.shared_with is not None:
            self._answers_shared += 1
        if call.refusal is not None:
            self._refusals[call.refusal] += 1
        for note in call.notes:
            self._notes[note.code] += note.count

    def failed(self, event: ConnectionEvent) -> None:
        """Count connections of which no call came."""
        self._failed[event.event, event.reason] += event.count

    def _resolve(self, call: CallEvent) -> _Series:
        """Return the series of a call that is new, or has something in it that was made up."""
        method = call.method if call.method in _METHODS else OTHER
        route = call.route or OTHER
        route = route if route in self._routes else OTHER
        dialect = call.dialect if call.dialect in _DIALECTS else NONE
        outcome = call.outcome if call.outcome in _OUTCOMES else OTHER
        key = (method, route, dialect, outcome)
        if (series := self._series.get(key)) is None:
            duration = self._durations.setdefault((method, route, outcome), _Histogram(DURATION))
            by_route = self._by_route.setdefault((method, route), _Route())
            series = self._series[key] = _Series(duration, by_route)
        return series

    def collect(self) -> Iterator[Metric]:
        """Return all that has been counted."""
        yield _counter(
            "calls",
            "Legacy calls that have ended.",
            ("method", "route", "dialect", "outcome"),
            (
                ((m, r or "", d or "", o), each.calls)
                for (m, r, d, o), each in list(self._series.items())
            ),
        )
        duration = _histogram(DURATION, ("method", "route", "outcome"))
        for labels, histogram in list(self._durations.items()):
            histogram.add_to(duration, labels, DURATION.scale)
        yield duration
        families = [_histogram(measure, ("method", "route")) for measure in _OF_A_ROUTE]
        for route, of_route in list(self._by_route.items()):
            for measure, family, each in zip(_OF_A_ROUTE, families, of_route.all(), strict=True):
                each.add_to(family, route, measure.scale)
        yield from families
        v2_calls: Counter[tuple[str, str]] = Counter()
        for (method, status), count in list(self._v2_calls.items()):
            v2_calls[method, _status_class(status)] += count
        yield _counter(
            "v2_calls",
            "v2 calls that were made, second tries among them, by the class of their status.",
            ("method", "status"),
            v2_calls.items(),
        )
        yield _counter(
            "v2_calls_shared",
            "v2 calls that were not made, because another legacy call made the same just then.",
            (),
            [((), self._v2_shared)],
        )
        yield _counter(
            "answers_shared",
            "Legacy calls that got the answer of another.",
            (),
            [((), self._answers_shared)],
        )
        yield _counter(
            "refusals", "Callers refused, by why.", ("reason",), _worded(self._refusals, _REFUSALS)
        )
        yield _counter(
            "notes", "Notes on translations.", ("code",), _worded(self._notes, _NOTE_CODES)
        )
        yield _counter(
            "connections_failed",
            "Connections of which no call came.",
            ("event", "reason"),
            list(self._failed.items()),
        )


_DIALECTS = frozenset(Dialect)
_OUTCOMES = frozenset(Outcome)
_REFUSALS = frozenset(Refusal)
_NOTE_CODES = frozenset((*NoteCode, *RecipientNote))


def _worded(counts: Counter[str], words: frozenset[str]) -> Iterable[tuple[tuple[str], int]]:
    found: Counter[str] = Counter()
    for word, count in list(counts.items()):
        found[word if word in words else OTHER] += count
    return (((word,), count) for word, count in found.items())


def _status_class(status: int) -> str:
    """Return `429`, `none` for no answer, or a class such as `2xx`."""
    if status in {0, 429}:
        return str(status) if status else "none"
    return f"{status // 100}xx" if 100 <= status <= 599 else OTHER


Value = tuple[Sequence[str], float]
"""The values of labels, and what was read."""


class Reading(NamedTuple):
    """Something that is read when it is asked for."""

    kind: Literal["gauge", "counter"]
    name: str
    documentation: str
    read: Callable[[], Iterable[Value]]
    """Returns nothing where there is nothing to read."""
    labels: tuple[str, ...] = ()
    unit: str = ""


class Readings(Collector):
    """Reads parts of the bridge."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        """Read these, each time."""
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Return what the parts say now."""
        return map(_family, self._readings)


class Metrics:
    """What `/metrics` answers: a registry of the bridge's own, and its text."""

    def __init__(self, calls: CallCounts) -> None:
        """Tell of `calls` and of the process; of other parts, once they are there."""
        self._calls = calls
        self._registry = CollectorRegistry()
        self._readings = CollectorRegistry()
        """What belongs to the event loop."""
        self._registry.register(calls)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        # A thread of its own: the others may be at long translations when metrics matter most.
        self._writer = ThreadPoolExecutor(1, "metrics")

    def read(self, readings: Sequence[Reading]) -> None:
        """Tell of these as well from here on."""
        self._readings.register(Readings(readings))

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their Content-Type: OpenMetrics or Prometheus' text by `accept`.

        Readings are taken in the event loop; the rest, which may be thousands of lines, elsewhere.
        """
        self._calls.catch_up()
        read = list(self._readings.collect())
        encode, content_type = choose_encoder(accept)

        def write() -> bytes:
            return encode(_Gathered([*self._registry.collect(), *read]))

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, write), content_type

    def close(self) -> None:
        """Write nothing more."""
        self._writer.shutdown(wait=False, cancel_futures=True)


class _Gathered(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counter(
    name: str, documentation: str, labels: tuple[str, ...], values: Iterable[Value]
) -> Metric:
    return _family(Reading("counter", name, documentation, lambda: values, labels))


def _family(reading: Reading) -> Metric:
    make = CounterMetricFamily if reading.kind == "counter" else GaugeMetricFamily
    name, labels = PREFIX + reading.name, reading.labels
    family = make(name, reading.documentation, labels=labels, unit=reading.unit)
    for given, value in reading.read():
        family.add_metric(given, value)
    return family


def _histogram(measure: Measure, labels: Sequence[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        PREFIX + measure.name, measure.documentation, labels=labels, unit=measure.unit
    )
