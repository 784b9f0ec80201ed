"""No answer, header or log line grows with what it quotes, whoever said it."""

import json

import pytest

from tests.support.legacy import LegacyClient
from tests.support.logged import Logged
from tests.support.upstream import Reply, ScriptedUpstream, page

LIST = "/invoice/7/messages"
LONG = "b" * 3000
CLOSED_WRONGLY = f"<invoice-message><{LONG}></invoice-message>"
XML = {"Content-Type": "application/xml"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", LIST, CLOSED_WRONGLY, id="name of an element"),
        pytest.param("POST", LIST, f"<invoice-message {LONG}='' {LONG}=''/>", id="of an attribute"),
        pytest.param("POST", LIST, f"<invoice-message>&{LONG};</invoice-message>", id="entity"),
        pytest.param(
            "POST",
            LIST,
            f"<invoice-message><recipients>{LONG}</recipients></invoice-message>",
            id="recipient",
        ),
        pytest.param("GET", f"/people/{LONG}", "", id="path"),
        pytest.param("GET", "/people" + "/a" * 3000, "", id="path of many segments"),
        pytest.param("GET", f"{LIST}?updated_since={LONG}", "", id="parameter"),
    ],
)
async def test_what_a_client_said_is_quoted_in_short(
    log: Logged, bridge: LegacyClient, method: str, path: str, body: str
) -> None:
    answer = await bridge.call(method, path, body=body.encode(), headers=XML)

    assert answer.status in {400, 501}
    assert 0 < len(answer.errors[0]) <= 500
    assert len(answer.headers.get("Hint", "")) <= 500
    (line,) = log.lines("legacy_call")
    assert len(json.dumps(line)) < 1500


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(json.dumps({"message": LONG}).encode(), 422), id="refusal"),
        pytest.param(Reply(json.dumps({"error_description": LONG}).encode(), 400), id="OAuth"),
        pytest.param(page({"id": 1, LONG: "x", "recipients": {LONG: 1}}), id="wrong shape"),
        pytest.param(page(following=f"https://elsewhere/{LONG}"), id="link"),
        pytest.param(Reply(LONG.encode()), id="no JSON"),
    ],
)
async def test_what_v2_said_is_quoted_in_short(
    log: Logged, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, reply: Reply
) -> None:
    upstream.says(reply)

    answer = await scripted_bridge.get(LIST)

    assert answer.status in {400, 502}
    assert 0 < len(answer.errors[0]) <= 500
    assert len(answer.headers.get("Hint", "")) <= 500
    (line,) = log.lines("legacy_call")
    assert len(json.dumps(line)) < 1500
