"""What is read of the bridge's parts when metrics are asked for: what is in use, open, or amiss.

Nothing here takes a lock, a file or the network: a part that is in trouble can still be read.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from bridge import __version__
from bridge.origin.health import Origins
from bridge.record.journal import Journal
from bridge.record.log.brownouts import Brownouts
from bridge.record.log.writer import LogWriter
from bridge.server.admin.health import OK, Readiness
from bridge.server.endpoint import Endpoint
from bridge.server.front import Front
from bridge.server.metrics import Reading, Value
from bridge.server.passing import Passing
from bridge.server.shadow.running import Shadow
from bridge.server.tls import CertificateReloader
from bridge.upstream.breaker import State
from bridge.upstream.gateway import Gateway


def of_what_is_kept(
    lost: Callable[[], int],
    writer: LogWriter,
    gateway: Gateway,
    journal: Journal,
    tls: CertificateReloader | None,
) -> Sequence[Reading]:
    """Return what there is to read before anybody calls; `lost` counts log lines."""
    return [
        *_of_the_build(),
        *_of_log_lines(lost),
        *_of_log(writer),
        *_of_gateway(gateway),
        *_of_journal(journal),
        *(() if tls is None else _of_certificate(tls)),
    ]


def of_the_legacy_side(endpoint: Endpoint, front: Front) -> Sequence[Reading]:
    """Return what there is to read of calls under way, and of connections."""
    return [*_of_endpoint(endpoint), *_of_front(front)]


def of_brownouts(brownouts: Brownouts) -> Sequence[Reading]:
    """Return what is on."""
    return [
        Reading(
            "gauge",
            "brownouts_on",
            "Brownouts that are on: calls are turned away on purpose.",
            _always(lambda: len(brownouts.in_force())),
        )
    ]


def of_shadow(shadow: Shadow) -> Sequence[Reading]:
    """Return what there is to read of comparing v1's answers with the bridge's."""

    def counted(counts: Mapping[str, int]) -> Callable[[], Iterable[Value]]:
        return lambda: [((name,), count) for name, count in counts.items()]

    return [
        Reading(
            "counter",
            "comparisons",
            "Answers of v1 that were compared with the bridge's.",
            counted(shadow.results),
            ("result",),
        ),
        Reading(
            "counter",
            "comparisons_skipped",
            "Calls whose turn it was, and whose answers were not compared, by why.",
            counted(shadow.skipped),
            ("reason",),
        ),
        Reading(
            "counter",
            "comparison_v2_calls",
            "v2 calls that were made for no client, but to compare.",
            _always(lambda: shadow.bridge.v2_calls),
        ),
        Reading(
            "gauge",
            "comparisons_in_progress",
            "Comparisons that are under way, or wait.",
            _always(lambda: shadow.under_way),
        ),
    ]


def of_v1(passing: Passing, origins: Origins) -> Sequence[Reading]:
    """Return what there is to read of calls that v1 answers."""

    def breakers() -> Iterable[Value]:
        states = Counter(dict.fromkeys(State, 0))
        states.update(origins.breakers().values())
        return (((state,), count) for state, count in states.items() if state is not State.CLOSED)

    return [
        Reading(
            "gauge",
            "v1_calls_under_way",
            "Calls that are passed through to v1 just now.",
            _always(lambda: passing.under_way),
        ),
        Reading(
            "gauge",
            "v1_breakers",
            "Circuit breakers of v1's origins that are not closed, by state.",
            breakers,
            ("state",),
        ),
        Reading(
            "gauge",
            "v1_gone",
            "Origins of those called of late where v1 is no more.",
            _always(lambda: len(origins.gone())),
        ),
    ]


def of_readiness(readiness: Readiness) -> Sequence[Reading]:
    """Return what the checks of `/readyz` have said last."""
    return [
        Reading(
            "gauge",
            "check_failing",
            "1 if this check of /readyz fails: calls are better sent elsewhere.",
            lambda: [((name,), said != OK) for name, said in readiness.latest.items()],
            ("check",),
        )
    ]


def _always(read: Callable[[], float]) -> Callable[[], Iterable[Value]]:
    return lambda: [((), read())]


def _of_the_build() -> Sequence[Reading]:
    labels = (__version__, platform.python_version())
    return [
        Reading(
            "gauge",
            "build_info",
            "1, with the version of the bridge and of its Python.",
            lambda: [(labels, 1)],
            ("version", "python"),
        )
    ]


def _of_log_lines(lost: Callable[[], int]) -> Sequence[Reading]:
    return [
        Reading(
            "counter",
            "log_lines_lost",
            "Log lines that nobody will read, for they could not be written.",
            _always(lost),
        )
    ]


def _of_log(writer: LogWriter) -> Sequence[Reading]:
    return [
        Reading(
            "gauge",
            "log_calls_waiting",
            "Calls that wait to be written to the translation log.",
            _always(lambda: writer.state().waiting),
        ),
        Reading(
            "counter",
            "log_calls_written",
            "Calls that were written to the translation log.",
            _always(lambda: writer.state().written),
        ),
        Reading(
            "counter",
            "log_calls_dropped",
            "Calls that were served and are not in the translation log.",
            _always(lambda: writer.state().dropped),
        ),
        Reading(
            "gauge",
            "log_failing",
            "1 if the translation log cannot be written: calls go on, and wait or are dropped.",
            _always(lambda: writer.state().failing_since is not None),
        ),
    ]


def _of_gateway(gateway: Gateway) -> Sequence[Reading]:

    def breakers() -> Iterable[Value]:
        states = Counter(dict.fromkeys(State, 0))
        states.update(gateway.breakers().values())
        return (((state,), count) for state, count in states.items())

    return [
        Reading(
            "gauge",
            "breakers",
            "Circuit breakers by state: one for v2 as a whole, one an account that has called.",
            breakers,
            ("state",),
        )
    ]


def _of_journal(journal: Journal) -> Sequence[Reading]:
    return [
        Reading(
            "gauge",
            "journal_failing",
            "1 if the latest commit of the journal of writes failed: no write is sent then.",
            _always(lambda: journal.problem() is not None),
        ),
        Reading(
            "gauge",
            "journal_unsettled_writes",
            "Writes whose outcome is open or unknown, as of the latest commit.",
            lambda: [] if journal.unsettled_count is None else [((), journal.unsettled_count)],
        ),
    ]


def _of_certificate(tls: CertificateReloader) -> Sequence[Reading]:

    def ends() -> Iterable[Value]:
        return [] if tls.ends is None else [((), tls.ends.timestamp())]

    return [
        Reading(
            "gauge",
            "certificate_expiry_timestamp_seconds",
            "When the certificate in force expires, in seconds since 1970.",
            ends,
            unit="seconds",
        )
    ]


def _of_front(front: Front) -> Sequence[Reading]:
    kinds = {
        "handshake": front.handshakes,
        "refused": front.lingering,
        "waiting": front.waiting,
        "stranger": front.unknown,
    }

    def connections() -> Iterable[Value]:
        counts = {kind: len(those) for kind, those in kinds.items()}
        counts["known"] = front.open - sum(counts.values())
        return (((kind,), count) for kind, count in counts.items())

    return [
        Reading(
            "gauge",
            "connections",
            "Connections of legacy clients by what they are at.",
            connections,
            ("kind",),
        ),
        Reading(
            "gauge",
            "connections_limit",
            "The most connections of legacy clients.",
            _always(lambda: front.limits.connections),
        ),
        Reading(
            "gauge",
            "heads_bytes",
            "Bytes held of heads that have not come whole.",
            _always(lambda: front.heads.used),
            unit="bytes",
        ),
        Reading(
            "gauge",
            "heads_limit_bytes",
            "The most bytes of such heads.",
            _always(lambda: front.heads.total),
            unit="bytes",
        ),
    ]


def _of_endpoint(endpoint: Endpoint) -> Sequence[Reading]:
    calls, bodies, reuse = endpoint.calls, endpoint.bodies, endpoint.reuse
    return [
        Reading(
            "gauge",
            "calls_in_progress",
            "Legacy calls that have a place now.",
            _always(lambda: calls.used),
        ),
        Reading(
            "gauge",
            "calls_limit",
            "The most legacy calls at once.",
            _always(lambda: calls.total),
        ),
        Reading(
            "gauge",
            "bodies_bytes",
            "Bytes held of request bodies.",
            _always(lambda: bodies.used),
            unit="bytes",
        ),
        Reading(
            "gauge",
            "bodies_limit_bytes",
            "The most bytes of request bodies.",
            _always(lambda: bodies.total),
            unit="bytes",
        ),
        Reading(
            "counter",
            "translations_reused",
            "Translations of lists that were told again, because v2's answer was the same.",
            _always(lambda: reuse.hits),
        ),
        Reading(
            "counter",
            "translations_not_reused",
            "Translations that might have been told again, but were not there.",
            _always(lambda: reuse.misses),
        ),
    ]
