"""Which recorded calls are compared, and what is said of the others."""

import json
from collections import Counter
from pathlib import Path

import pytest

from bridge.verifying.har import Recording
from bridge.verifying.reads import MEANINGS, Plan, Read, Skipped, plan
from tests.support.recordings import Call, document, mitmproxy, record

LIST = "/invoices/1420/payments"
DOCUMENT = "<payments/>"


def planned(path: Path, *calls: Call, drops_repeated: bool = True) -> Plan:
    file = record(path / "v1.har", calls, mitmproxy)
    return plan([Recording(file)], drops_repeated=drops_repeated)


def only(path: Path, call: Call) -> Read:
    (read,) = planned(path, call).reads
    return read


@pytest.mark.parametrize(
    ("call", "reason", "told"),
    [
        (Call("/favicon.ico", DOCUMENT), Skipped.NOT_V1, ""),
        (Call("/", DOCUMENT, origin="chrome-extension:"), Skipped.NOT_V1, ""),
        (
            Call(f"{LIST}?a=1", DOCUMENT, method="POST"),
            Skipped.WRITE,
            "POST /invoices/{…}/payments",
        ),
        (Call("/clients/7.xml", DOCUMENT), Skipped.NOT_TRANSLATED, "GET /clients/{…}"),
        (Call(LIST, DOCUMENT, status=0), Skipped.NO_ANSWER, "GET /invoices/{…}/payments"),
        (Call(LIST, ""), Skipped.NO_BODY, "GET /invoices/{…}/payments"),
        (Call(LIST, "Busy", status=503), Skipped.NOT_SERVED, "GET /invoices/{…}/payments"),
        (Call(LIST, status=304), Skipped.NOT_SERVED, "GET /invoices/{…}/payments"),
        (Call(LIST, status=401), Skipped.NOT_SERVED, "GET /invoices/{…}/payments"),
        (
            Call(LIST, "[]", content_type="application/json"),
            Skipped.JSON,
            "GET /invoices/{…}/payments",
        ),
    ],
)
def test_what_cannot_be_compared_is_skipped_for_a_reason(
    tmp_path: Path, call: Call, reason: Skipped, told: str
) -> None:
    assert planned(tmp_path, call) == ([], Counter({(reason, told): 1}))


def test_every_reason_has_words() -> None:
    assert set(MEANINGS) == set(Skipped)


@pytest.mark.parametrize(
    "call",
    [
        Call(LIST, DOCUMENT),
        Call(LIST, status=404),
        Call(LIST, "", method="HEAD"),
        Call("/account/rate_limit_status", "{}", content_type="application/json"),
        Call(f"{LIST}/", DOCUMENT, origin="http://127.0.0.1:8082"),
    ],
)
def test_reads_that_the_bridge_translates_are_compared(tmp_path: Path, call: Call) -> None:
    read = only(tmp_path, call)

    assert (read.method, read.path) == (call.method, call.target)
    assert read.v1.status == call.status


def test_calls_to_v2_are_none_of_v1s(tmp_path: Path) -> None:
    v2 = Call("/v2/invoices/1420/payments", "{}", origin="https://api.harvestapp.com")

    assert planned(tmp_path, v2) == ([], Counter())


def test_the_last_answer_to_what_is_asked_again_counts(tmp_path: Path) -> None:
    other = Call(LIST, "<other/>", sent={"Authorization": "Basic eDp5"})
    calls = [Call(LIST, "<first/>"), other, Call(LIST, "<last/>")]
    found = planned(tmp_path, *calls)

    assert [read.v1.body for read in found.reads] == [b"<other/>", b"<last/>"]
    assert found.skipped == {(Skipped.REPEATED, "GET /invoices/{…}/payments"): 1}
    assert len(planned(tmp_path, *calls, drops_repeated=False).reads) == 3


def test_a_token_is_kept_out_of_what_is_told(tmp_path: Path) -> None:
    read = only(tmp_path, Call(f"{LIST}?access_token=s3cret&updated_since=2026-01-01", DOCUMENT))

    assert read.target == f"{LIST}?updated_since=2026-01-01"
    assert read.token is not None
    assert read.token.reveal() == "s3cret"
    assert "s3cret" not in repr(read)


def test_a_secret_that_was_taken_away_is_none(tmp_path: Path) -> None:
    sent = {"Authorization": "REMOVED"}
    read = only(tmp_path, Call(f"{LIST}?access_token=REMOVED", DOCUMENT, sent=sent))

    assert (read.authorization, read.token, read.target) == (None, None, LIST)


def test_what_a_recorder_has_decoded_is_encoded_again(tmp_path: Path) -> None:
    assert only(tmp_path, Call(f"{LIST}?q=ä b", DOCUMENT)).target == f"{LIST}?q=%C3%A4%20b"


@pytest.mark.parametrize(
    ("times", "latest"),
    [
        (("T10:00:00Z", "T09:00:00.5Z"), 0),
        (("T11:00:00+01:00", "T10:00:00"), 1),
        (("T11:00:00+01:00", "T09:00:00-02:00"), 1),
    ],
)
def test_of_what_was_asked_again_the_latest_counts_wherever_it_stands(
    tmp_path: Path, times: tuple[str, str], latest: int
) -> None:
    """What is exported of captures begins with the latest."""
    calls = [
        mitmproxy(Call(LIST, DOCUMENT)) | {"startedDateTime": f"2026-11-01{each}"} for each in times
    ]
    file = tmp_path / "v1.har"
    file.write_text(json.dumps(document(calls)))

    (read,) = plan([Recording(file)], drops_repeated=True).reads

    assert read.when == f"2026-11-01{times[latest]}"


def test_where_no_times_are_told_the_last_counts(tmp_path: Path) -> None:
    calls = [mitmproxy(Call(LIST, body)) | {"startedDateTime": "?"} for body in ("<a/>", "<b/>")]
    file = tmp_path / "v1.har"
    file.write_text(json.dumps(document(calls)))

    (read,) = plan([Recording(file)], drops_repeated=True).reads

    assert read.v1.body == b"<b/>"
