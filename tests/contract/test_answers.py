"""What every answer carries, and what becomes of v2's refusals (schemas/README.md)."""

import json
from datetime import date
from typing import Any

import pytest

from bridge.sandbox.app import create_sandbox
from bridge.server import endpoint
from tests.support.legacy import LegacyClient
from tests.support.running import running_app, running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message, page

LIST = "/invoice/1420/messages"
SUCCESSOR = '<https://api.harvestapp.com/v2/invoices/1420/messages>; rel="successor-version"'


class TestHeaders:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", LIST, 200),
            ("DELETE", f"{LIST}/409", 200),
            ("GET", f"{LIST}/1", 404),
            ("PUT", f"{LIST}/409", 405),
            ("GET", "/people", 501),
        ],
    )
    async def test_every_answer_says_that_v1_is_deprecated(
        self, bridge: LegacyClient, method: str, path: str, status: int
    ) -> None:
        answer = await bridge.call(method, path)

        assert answer.status == status
        # 1 January 2019, when the vendor's support ended, as RFC 9745 writes a date.
        assert answer.headers["Deprecation"] == "@1546300800"
        assert 'rel="successor-version"' in answer.headers["Link"]
        assert "Sunset" not in answer.headers

    async def test_link_names_the_v2_resource(self, bridge: LegacyClient) -> None:
        assert (await bridge.get(LIST)).headers["Link"] == SUCCESSOR

    async def test_sunset_is_told_when_it_is_set(self, sandbox: str) -> None:
        async with running_bridge(sandbox, sunset=date(2027, 6, 30)) as client:
            answer = await client.get(LIST)

        assert answer.headers["Sunset"] == "Wed, 30 Jun 2027 00:00:00 GMT"

    @pytest.mark.parametrize("sane", ["abc-1", "2f1a.99:x_Y", "a" * 128])
    async def test_a_sane_request_id_is_kept(self, bridge: LegacyClient, sane: str) -> None:
        answer = await bridge.get(LIST, headers={"X-Request-Id": sane})

        assert answer.headers["X-Request-Id"] == sane

    @pytest.mark.parametrize(
        "odd", ["", "a b", "ü", "<x>", "a" * 129, "x@example.com", "12.pt.aB3dE5fG7hI9kL"]
    )
    async def test_another_request_id_is_replaced(self, bridge: LegacyClient, odd: str) -> None:
        first, second = [
            (await bridge.get(LIST, headers={"X-Request-Id": odd})).headers["X-Request-Id"]
            for _ in range(2)
        ]

        assert len({odd, first, second}) == 3


class TestRefusals:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            (400, 400),
            (401, 401),
            (403, 403),
            (404, 404),
            (408, 504),
            (409, 502),
            (418, 502),
            (422, 400),
            (429, 503),
            (500, 502),
            (502, 502),
            (503, 502),
            (504, 502),
            (301, 502),
            (304, 502),
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", LIST), ("GET", f"{LIST}/5"), ("DELETE", f"{LIST}/5")]
    )
    async def test_statuses(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        method: str,
        path: str,
        theirs: int,
        ours: int,
    ) -> None:
        upstream.says(Reply(b"", theirs, {"Location": "http://127.0.0.1:1/"}))

        answer = await scripted_bridge.call(method, path)

        assert answer.status == ours
        assert answer.errors
        # What somebody between makes up when v2 is out of reach is worth another try.
        assert (len(upstream.received) > 1) == (theirs in {502, 503, 504})

    @pytest.mark.parametrize("path", [LIST, f"{LIST}/5", f"{LIST}/new"])
    @pytest.mark.parametrize("status", [201, 204])
    async def test_what_has_an_answer_has_it_with_200(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        path: str,
        status: int,
    ) -> None:
        upstream.says(Reply(b"", status))

        assert (await scripted_bridge.get(path)).status == 502

    @pytest.mark.parametrize("path", [f"{LIST}/5", "/invoices/1420/payments/5"])
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b""),
            (200, b" \r\n"),
            (200, b"\xef\xbb\xbf"),
            (200, b"{}"),
            (202, b""),
            (202, b'{"message": "Accepted"}'),
            (204, b""),
            (205, b""),
        ],
    )
    async def test_a_delete_that_v2_answers_by_any_2xx_is_done(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        path: str,
        status: int,
        body: bytes,
    ) -> None:
        upstream.says(Reply(body, status))

        answer = await scripted_bridge.call("DELETE", path)

        assert (answer.status, answer.body) == (200, b"")
        assert len(upstream.received) == 1

    @pytest.mark.parametrize("status", [200, 202])
    async def test_a_delete_that_a_web_page_answers_is_not(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, status: int
    ) -> None:
        upstream.says(Reply(b"<html>Log in</html>", status))

        assert (await scripted_bridge.call("DELETE", f"{LIST}/5")).status == 502

    async def test_a_byte_order_mark_before_v2s_json_is_read_past(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(b"\xef\xbb\xbf" + json.dumps(page(message())).encode())
        assert (await scripted_bridge.get(LIST)).texts("id") == ["27835209"]

        upstream.says(Reply(b'\xef\xbb\xbf{"message": "No."}', 422))
        assert (await scripted_bridge.get(LIST)).headers["Hint"] == "No."

    @pytest.mark.parametrize(
        ("body", "hint"),
        [
            ({"message": ["a", "b"]}, "a, b"),
            ({"errors": {"email": ["is invalid"], "body": "is blank"}},
             "email: is invalid; body: is blank"),
            ({"error": {"message": "No."}}, "No."),
            ({"message": " \n"}, "Harvest refused the request."),
            ({"errors": {}}, "Harvest refused the request."),
        ],
    )  # fmt: skip
    async def test_a_refusal_of_any_shape_has_words(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        body: dict[str, Any],
        hint: str,
    ) -> None:
        upstream.says(Reply(json.dumps(body).encode(), 422))

        answer = await scripted_bridge.get(LIST)

        assert (answer.status, answer.headers["Hint"], answer.errors) == (400, hint, [hint])

    @pytest.mark.parametrize("status", [400, 422])
    async def test_v2s_own_words_are_the_hint(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, status: int
    ) -> None:
        words = "Recipients can't be blank\r\nX-Evil: 1 – naïve"
        upstream.says(Reply(json.dumps({"message": words}).encode(), status))

        answer = await scripted_bridge.get(LIST)

        assert answer.headers["Hint"] == "Recipients can't be blank X-Evil: 1 ? na?ve"
        assert answer.errors == [words]

    @pytest.mark.parametrize(
        ("sent", "told"),
        [
            ("7", "7"),
            (None, "15"),
            ("-1", "15"),
            ("0", "1"),
            ("Wed, 21 Oct 2020 07:28:00 GMT", "1"),
            ("999999999", "3600"),
            ("Fri, 31 Dec 9999 23:59:59 GMT", "3600"),
        ],
    )
    async def test_429_tells_whole_seconds_to_wait(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        sent: str | None,
        told: str,
    ) -> None:
        upstream.says(Reply(b"", 429, {} if sent is None else {"Retry-After": sent}))

        answer = await scripted_bridge.get(LIST)

        assert (answer.status, answer.headers["Retry-After"]) == (503, told)

    async def test_the_sandboxs_throttle_is_503(self) -> None:
        async with (
            running_app(create_sandbox(throttle=True)) as url,
            running_bridge(f"{url}/v2") as client,
        ):
            answers = [await client.get("/invoice/1421/messages") for _ in range(101)]

        assert {answer.status for answer in answers[:100]} == {200}
        assert answers[100].status == 503
        assert 0 < int(answers[100].headers["Retry-After"]) <= 15


async def test_an_unexpected_defect_is_500_and_says_nothing_of_itself(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("sesame")

    monkeypatch.setattr(endpoint, "run", fail)
    upstream.says(page())
    async with running_bridge(upstream.base_url) as client:
        answer = await client.get(LIST)

    assert answer.status == 500
    assert "sesame" not in answer.errors[0]
