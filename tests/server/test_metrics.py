"""What Prometheus is told: names, labels and numbers, and that nobody can add to them."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from bridge.record.log.events import (
    CallEvent,
    ConnectionEvent,
    Ended,
    NoteEvent,
    Outcome,
    UpstreamCallEvent,
    outcome_of,
)
from bridge.resources import RESOURCES
from bridge.server.metrics import COUNTED_AT_ONCE, PREFIX, CallCounts, Metrics
from bridge.v1.dialects import Dialect
from tests.support.certificates import put_in_place
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import Reply, ScriptedUpstream, page
from tests.support.writing import SEND, hello

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
ROUTE = "/invoice/{invoice_id}/messages"


def call(**given: Any) -> Ended:
    """Return a read of a list that went well, but for what is given."""
    status = given.get("status", 200)
    facts: dict[str, Any] = {
        "level": "info",
        "timestamp": datetime(2026, 11, 26, tzinfo=UTC),
        "id": 1,
        "request_id": "r-1",
        "integration": "0123456789ab",
        "method": "GET",
        "route": ROUTE,
        "dialect": Dialect.CLASSIC,
        "way": "bearer",
        "account_id": 1000,
        "label": None,
        "user_agent": None,
        "status": status,
        "outcome": outcome_of(status),
        "milliseconds": 12.0,
        "upstream": (v2_call(),),
        "notes": (),
    }
    return Ended(CallEvent(**{**facts, **given}), b"{}")


def v2_call(status: int | None = 200, **given: Any) -> UpstreamCallEvent:
    path = "/invoices/1420/messages"
    return UpstreamCallEvent("GET", path, "/invoices/{invoice_id}/messages", status, 8.0, **given)


def told(counts: CallCounts) -> dict[str, float]:
    """Return every sample that is not zero, as Prometheus writes it, without the prefix."""
    found = {}
    counts.catch_up()
    for family in counts.collect():
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name.removeprefix(PREFIX)}{{{labels}}}"] = sample.value
    return found


@pytest.fixture
def counts() -> CallCounts:
    return CallCounts(RESOURCES)


class TestACall:
    def test_is_counted_in_time_to_be_told_and_before_too_many_wait(
        self, counts: CallCounts
    ) -> None:
        for _ in range(COUNTED_AT_ONCE + 1):
            counts.ended([call()])

        assert len(counts._uncounted) == 1
        assert (
            told(counts)[
                "call_duration_seconds_count{" + (f"method=GET,route={ROUTE},outcome=served" + "}")
            ]
            == COUNTED_AT_ONCE + 1
        )

    def test_is_counted_by_method_route_dialect_and_outcome(self, counts: CallCounts) -> None:
        counts.ended([call()])
        counts.ended([call()])
        counts.ended([call(status=502)])

        known = f"method=GET,route={ROUTE},dialect=classic"
        assert told(counts)[f"calls_total{{{known},outcome=served}}"] == 2
        assert told(counts)[f"calls_total{{{known},outcome=failed}}"] == 1

    @pytest.mark.parametrize(
        ("name", "labels", "given"),
        [
            ("call_duration_seconds", ",outcome=served", "milliseconds"),
            ("call_v2_seconds", "", "v2_milliseconds"),
            ("call_waiting_seconds", "", "waiting_milliseconds"),
            ("call_translation_seconds", "", "translation_milliseconds"),
        ],
    )
    def test_has_its_times_in_seconds(
        self, counts: CallCounts, name: str, labels: str, given: str
    ) -> None:
        counts.ended([call(**{given: 25.0})])
        counts.ended([call(**{given: 30.0})])

        found = told(counts)
        which = f"method=GET,route={ROUTE}{labels}"
        assert found[f"{name}_sum{{{which}}}"] == 0.055
        assert found[f"{name}_count{{{which}}}"] == 2
        assert found[f"{name}_bucket{{{which},le=0.01}}"] == 0
        assert found[f"{name}_bucket{{{which},le=0.025}}"] == 1
        assert found[f"{name}_bucket{{{which},le=0.05}}"] == 2
        assert found[f"{name}_bucket{{{which},le=+Inf}}"] == 2

    def test_that_never_waited_is_none_that_waited_for_no_time(self, counts: CallCounts) -> None:
        counts.ended([call(v2_milliseconds=None, waiting_milliseconds=None)])

        which = f"method=GET,route={ROUTE}"
        assert told(counts)[f"call_waiting_seconds_count{{{which}}}"] == 0
        assert told(counts)[f"call_v2_seconds_count{{{which}}}"] == 0

    def test_has_its_v2_calls_counted_by_class_of_status(self, counts: CallCounts) -> None:
        statuses = (200, 201, 301, 401, 404, 429, 429, 500, None)
        counts.ended([call(upstream=tuple(map(v2_call, statuses)))])

        found = told(counts)
        assert {
            key.partition("status=")[2].strip("}"): value
            for key, value in found.items()
            if key.startswith("v2_calls_total")
        } == {"2xx": 2, "3xx": 1, "4xx": 2, "429": 2, "5xx": 1, "none": 1}
        assert found[f"call_v2_calls_sum{{method=GET,route={ROUTE}}}"] == len(statuses)

    def test_that_shares_says_so(self, counts: CallCounts) -> None:
        counts.ended([call(upstream=(v2_call(shared=True),))])
        counts.ended([call(upstream=(), shared_with="r-2")])

        found = told(counts)
        assert found["v2_calls_shared_total{}"] == 1
        assert found["answers_shared_total{}"] == 1
        assert not [key for key in found if key.startswith("v2_calls_total")]

    def test_has_its_notes_and_its_refusal_counted(self, counts: CallCounts) -> None:
        counts.ended([call(notes=(NoteEvent("xml-suffix", "path", 3),))])
        counts.ended([call(status=401, refusal="wrong-password")])

        assert told(counts)["notes_total{code=xml-suffix}"] == 3
        assert told(counts)["refusals_total{reason=wrong-password}"] == 1


def test_connections_that_failed_alike_are_counted_one_by_one(counts: CallCounts) -> None:
    counts.failed(
        ConnectionEvent(
            event="tls_handshake_failed",
            timestamp=datetime.now(UTC),
            network="203.0.113.7",
            reason="unknown-ca",
            count=17,
        )
    )

    key = "connections_failed_total{event=tls_handshake_failed,reason=unknown-ca}"
    assert told(counts)[key] == 17


# Hypothesis knows the words that stand in the code.
ANYTHING = st.text(max_size=30).map("made up: {}".format)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "method": ANYTHING,
                "route": ANYTHING,
                "path": ANYTHING,
                "dialect": ANYTHING,
                "outcome": ANYTHING,
                "host": ANYTHING,
                "login": ANYTHING,
                "subdomain": ANYTHING,
                "integration": ANYTHING,
                "user_agent": ANYTHING,
                "account_id": st.integers(1, 2**63 - 1),
                "status": st.integers(100, 999),
                "upstream": st.tuples(st.builds(v2_call, st.integers(-1, 10**6))),
                "notes": st.tuples(st.builds(NoteEvent, ANYTHING, ANYTHING, st.just(1))),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=30)
def test_a_flood_of_what_is_made_up_adds_one_series_of_each_kind(flood: list[Any]) -> None:
    counts = CallCounts(RESOURCES)
    for each in flood:
        counts.ended([call(**{**each, "outcome": Outcome.MISSING})])

    found = told(counts)
    assert found["calls_total{method=other,route=other,dialect=,outcome=missing}"] == len(flood)
    assert len([key for key in found if key.startswith("calls_total")]) == 1
    assert found["notes_total{code=other}"] == len(flood)
    assert len([key for key in found if key.startswith("v2_calls_total")]) <= len(V2_STATUSES)
    # What is kept has not grown with it, either.
    assert len(counts._series) == 1


V2_STATUSES = ("2xx", "3xx", "4xx", "429", "5xx", "none", "other")


@pytest.fixture
async def metrics(counts: CallCounts) -> AsyncIterator[Metrics]:
    metrics = Metrics(counts)
    yield metrics
    metrics.close()


async def test_a_scraper_gets_the_format_that_it_accepts(metrics: Metrics) -> None:
    assert (await metrics.text(""))[1].startswith("text/plain; version=0.0.4")
    assert (await metrics.text("text/html, */*;q=0.1"))[1].startswith("text/plain; version=0.0.4")
    text, content_type = await metrics.text(f"{OPEN_METRICS}, text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


async def scraped(port: int, accept: str = "") -> str:
    """Return what the admin side at `port` tells Prometheus."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}/metrics", headers={"Accept": accept}) as response,
    ):
        assert response.status == 200
        return await response.text()


def ours(families: Any) -> dict[str, Metric]:
    """Return the bridge's own families by their names, with a counter's suffix."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in families
        if family.name.startswith(PREFIX)
    }


class TestABridge:
    async def test_tells_in_both_formats_what_their_parsers_take(
        self, upstream: ScriptedUpstream
    ) -> None:
        async with running_service(upstream.base_url, account_id=1000) as (service, client):
            upstream.says(page(hello()))
            assert (await client.get(SEND)).status == 200
            as_text = ours(prometheus(await scraped(service.admin_port)))
            told = await scraped(service.admin_port, OPEN_METRICS)
            as_open_metrics = ours(open_metrics(told))  # type: ignore[no-untyped-call]

        assert as_text.keys() == as_open_metrics.keys()

    async def test_tells_what_the_page_on_metrics_lists_and_nothing_else(
        self, upstream: ScriptedUpstream, tmp_path: Path
    ) -> None:
        certificate, key = put_in_place(trustme.CA().issue_cert(LOOPBACK), tmp_path)
        async with running_service(
            upstream.base_url, account_id=1000, tls_certificate=certificate, tls_key=key,
            legacy_origin="http://127.0.0.1:1",
        ) as (service, _):  # fmt: skip
            text = await scraped(service.admin_port)

        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in DOCUMENTED.splitlines()
            if line.startswith(f"| `{PREFIX}")
        ]
        found = ours(prometheus(text))
        assert [(name.strip("`"), kind, meaning) for name, kind, _, meaning in rows] == [
            (name, found[name].type, found[name].documentation)
            for name in (name.strip("`") for name, *_ in rows)
            if name in found
        ]
        assert len(rows) == len(found)
        for name, _, labels, _ in rows:
            for sample in found[name.strip("`")].samples:
                names = {label for label in sample.labels if label != "le"}
                assert names == set(re.findall(r"`(\w+)`", labels)), name

    async def test_tells_which_checks_fail_though_nobody_has_asked_for_readiness(
        self, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(Reply(status=404))
        async with running_service(upstream.base_url, account_id=1000) as (service, _):
            found = ours(prometheus(await scraped(service.admin_port)))

        failing = found[f"{PREFIX}check_failing"].samples
        assert {sample.labels["check"]: sample.value for sample in failing} == {
            "journal": 0,
            "breakers": 0,
            "upstream": 1,
        }

    @needs_promtool
    async def test_tells_what_promtool_finds_no_fault_with(
        self, upstream: ScriptedUpstream
    ) -> None:
        async with running_service(upstream.base_url, account_id=1000) as (service, client):
            upstream.says(page(hello()))
            await client.get(SEND)
            text = await scraped(service.admin_port)

        command = ("promtool", "check", "metrics")
        done = await asyncio.to_thread(
            subprocess.run, command, input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
