"""Verifying without a network: the bridge's answer, made from a recording of v2."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.comparing import NOTHING, Result
from bridge.v1.dialects import Dialect
from bridge.verifying.core import RecordedV2
from bridge.verifying.har import Recording
from bridge.verifying.outcome import Outcome
from bridge.verifying.reads import Skipped, plan
from bridge.verifying.running import Judging, Left, from_recording
from tests.support.recordings import Call, document, mitmproxy, record

V2 = "https://api.harvestapp.com"
JSON = "application/json; charset=utf-8"
PATH = "/invoice/1420/payments"


def payment(id_: int, **more: Any) -> dict[str, Any]:
    return {"id": id_, "amount": 10, "created_at": "2026-01-01T00:00:00Z", **more}


def page(*items: Mapping[str, Any], next_: str | None = None) -> str:
    return json.dumps({"invoice_payments": items, "links": {"next": next_}})


def v2_call(query: str, body: str, status: int = 200) -> Call:
    return Call(f"/v2/invoices/1420/payments{query}", body, status, content_type=JSON, origin=V2)


def v1_payment(id_: int, amount: str = "10.0") -> str:
    return (
        f'<payment><amount type="decimal">{amount}</amount>'
        '<created-at type="datetime">2026-01-01T00:00:00Z</created-at>'
        f'<id type="integer">{id_}</id><invoice-id type="integer">1420</invoice-id>'
        '<notes nil="true"/><paid-at type="datetime" nil="true"/><recorded-by nil="true"/>'
        '<recorded-by-email nil="true"/></payment>'
    )


def v1_list(*items: str) -> Call:
    return Call(PATH, f'<payments type="array">{"".join(items)}</payments>')


def verified(path: Path, v1: Call, *v2: Call, dialect: Dialect | None = None) -> Outcome | Left:
    reads = plan([Recording(record(path / "v1.har", [v1]))], drops_repeated=False).reads
    recorded = RecordedV2([Recording(record(path / "v2.har", v2))])
    (outcome,) = from_recording(reads, recorded, Judging(NOTHING, wants_values=True), dialect)
    return outcome


def compared(outcome: Outcome | Left) -> Outcome:
    assert isinstance(outcome, Outcome)
    return outcome


def test_an_answer_of_v1s_is_compared_with_the_bridge_s_own_of_v2s(tmp_path: Path) -> None:
    v2 = v2_call("?per_page=2000", page(payment(2), payment(1)))

    same = compared(verified(tmp_path, v1_list(v1_payment(2), v1_payment(1)), v2))
    assert (same.result, same.statuses) == (Result.EQUAL, (200, 200))
    other = compared(verified(tmp_path, v1_list(v1_payment(2), v1_payment(1, "11.0")), v2))
    assert other.comparison is not None
    (difference,) = other.comparison.differences
    assert (difference.path, difference.v1, difference.bridge) == (
        "/payments/payment[id=1]/amount",
        "11.0",
        "10.0",
    )


def test_pages_may_have_been_recorded_by_whoever_asked_for_shorter_ones(tmp_path: Path) -> None:
    link = f"{V2}/v2/invoices/1420/payments?cursor=abc&per_page=1"
    first = v2_call("?per_page=1", page(payment(2), next_=link))
    second = v2_call("?cursor=abc&per_page=1", page(payment(1)))
    v1 = v1_list(v1_payment(2), v1_payment(1))

    assert compared(verified(tmp_path, v1, first, second)).result is Result.EQUAL


def test_a_call_that_was_not_recorded_is_named(tmp_path: Path) -> None:
    missing = verified(tmp_path, v1_list(), v2_call("?page=2", page()))

    assert isinstance(missing, Left)
    assert (missing.reason, missing.detail) == (
        Skipped.NO_V2,
        "GET /invoices/1420/payments?per_page=2000",
    )


def test_what_v2_refuses_is_the_answer_that_a_client_gets(tmp_path: Path) -> None:
    refusal = v2_call("", '{"message": "Not found"}', 404)

    assert compared(verified(tmp_path, Call(PATH, " ", 404), refusal)).result is Result.EQUAL
    assert compared(verified(tmp_path, v1_list(), refusal)).statuses == (200, 404)


def test_what_v2_did_not_serve_cannot_be_compared(tmp_path: Path) -> None:
    outcome = compared(verified(tmp_path, v1_list(), v2_call("", "{}", 500)))

    assert outcome.result is Result.INCOMPARABLE
    assert outcome.reason.startswith("the bridge's answer 502 ")


def test_a_dialect_can_be_asked_for(tmp_path: Path) -> None:
    v2 = v2_call("", page(payment(1)))
    v1 = v1_list(v1_payment(1))
    outcome = compared(verified(tmp_path, v1, v2, dialect=Dialect.FINAL))

    assert outcome.comparison is not None
    assert "/payments/payment/updated-at" in {spot.path for spot in outcome.comparison.counted}


def test_a_call_that_asks_v2_nothing_needs_no_recording_of_it(tmp_path: Path) -> None:
    status = {"last_access_at": "2026-01-01T00:00:00Z", "count": 3, "timeframe_limit": 15,
              "max_calls": 100, "lockout_seconds": 5}  # fmt: skip
    v1 = Call("/account/rate_limit_status", json.dumps(status), content_type=JSON)
    outcome = compared(verified(tmp_path, v1))

    assert outcome.result is Result.EQUAL
    assert outcome.comparison is not None
    assert outcome.comparison.known == {"own-count": 3}


def test_a_head_is_compared_by_its_status(tmp_path: Path) -> None:
    v1 = Call(PATH, "", method="HEAD")

    assert compared(verified(tmp_path, v1, v2_call("", page(payment(1))))).result is Result.EQUAL


@pytest.mark.parametrize("pages", [("1", "2"), ("2", "1")])
def test_a_captured_call_gets_the_answers_of_its_own_page(
    tmp_path: Path, pages: tuple[str, str]
) -> None:
    entries = []
    for at, amount in zip(pages, ("10.0", "20.0"), strict=True):
        v2 = mitmproxy(v2_call("?per_page=2000", page(payment(1, amount=float(amount)))))
        entries.append({**mitmproxy(v1_list(v1_payment(1, amount))), "pageref": at, "_side": "v1"})
        entries.append({**v2, "pageref": at, "_side": "v2"})
    file = tmp_path / "capture.har"
    file.write_text(json.dumps(document(entries)))
    recording = Recording(file)

    reads = plan([recording], drops_repeated=False).reads
    outcomes = from_recording(reads, RecordedV2([recording]), Judging(NOTHING, wants_values=False))
    assert [compared(each).result for each in outcomes] == [Result.EQUAL, Result.EQUAL]
