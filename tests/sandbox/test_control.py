"""The control endpoint: rules in and out, the seed, and what calls have come."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pytest_aiohttp.plugin import AiohttpClient

from bridge.sandbox.app import SANDBOX_TOKEN, create_sandbox
from bridge.sandbox.calls import MOST_KEPT, shown
from bridge.sandbox.faults import read_rules
from tests.sandbox.conftest import HEADERS, Client, Start
from tests.test_cli import listening_port, run_here, running, the_line, told_to_stop

LIST = "/v2/invoices/1420/messages"
ALWAYS = {"skip": 0, "probability": 1.0, "matched": 0, "fired": 0}


async def asked(client: Client, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    async with client.request(method, f"/sandbox/{path}", data=data and BytesIO(data)) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json() if status != 204 else await answer.read()


class TestRules:
    async def test_a_rule_is_added_with_an_id_and_its_defaults(self, client: Client) -> None:
        added = await asked(client, "POST", "faults", {"fault": "reset", "times": 2}, 201)
        reset = {"id": 1, "fault": "reset", "at": "before", "applied": False, "times": 2, **ALWAYS}
        assert added == {"rules": [reset]}
        assert await asked(client, "GET", "faults") == {"seed": 0, "rules": [reset]}

    async def test_a_list_is_added_whole_or_not_at_all(self, client: Client) -> None:
        wrong = [{"fault": "html"}, {"fault": "html", "status": "200"}]
        refused = await asked(client, "POST", "faults", wrong, 400)
        assert refused == {"message": "rule 2: Expected `int`, got `str` - at `$.status`"}
        assert (await asked(client, "GET", "faults"))["rules"] == []
        added = await asked(client, "POST", "faults", [{"fault": "html"}, {"fault": "hang"}], 201)
        assert [rule["id"] for rule in added["rules"]] == [1, 2]

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"5", b'"reset"', b"[" * 100_000])
    async def test_what_is_no_rule_is_400(self, client: Client, body: bytes) -> None:
        refused = await asked(client, "POST", "faults", body, 400)
        assert list(refused) == ["message"]

    async def test_rules_count_what_they_see_and_what_they_do(self, client: Client) -> None:
        rules = [{"fault": "html", "method": "GET", "skip": 1}, {"fault": "html", "method": "POST"}]
        await asked(client, "POST", "faults", rules, 201)
        for _ in range(3):
            await client.get(LIST)
        listed = await asked(client, "GET", "faults")
        assert [(rule["matched"], rule["fired"]) for rule in listed["rules"]] == [(3, 2), (0, 0)]

    async def test_one_rule_or_all_are_removed(self, client: Client) -> None:
        await asked(client, "POST", "faults", [{"fault": "html"}] * 3, 201)
        assert await asked(client, "DELETE", "faults/2", status=204) == b""
        gone = await asked(client, "DELETE", "faults/2", status=404)
        assert gone == {"message": "There is no rule 2"}
        listed = await asked(client, "GET", "faults")
        assert [rule["id"] for rule in listed["rules"]] == [1, 3]
        await asked(client, "DELETE", "faults", status=204)
        assert (await client.get(LIST)).content_type == "application/json"
        assert (await asked(client, "GET", "faults"))["rules"] == []

    async def test_a_seed_is_set_and_counts_start_again(self, client: Client) -> None:
        await asked(client, "POST", "faults", {"fault": "html", "times": 1}, 201)
        for _ in range(2):
            assert (await client.get(LIST)).content_type == "text/html"
            assert (await client.get(LIST)).content_type == "application/json"
            assert await asked(client, "POST", "seed", {"seed": 7}) == {"seed": 7}
        listed = await asked(client, "GET", "faults")
        assert (listed["seed"], listed["rules"][0]["matched"]) == (7, 0)

    @pytest.mark.parametrize("body", [{}, {"seed": "7"}, {"seed": 7, "x": 1}, b"{", b"\xff", [7]])
    async def test_a_wrong_seed_is_400(self, client: Client, body: Any) -> None:
        assert list(await asked(client, "POST", "seed", body, 400)) == ["message"]

    async def test_rules_and_seed_can_be_there_from_the_start(self, start: Start) -> None:
        client = await start(faults=read_rules(b'{"fault": "html"}'), seed=3)
        listed = await asked(client, "GET", "faults")
        assert (listed["seed"], len(listed["rules"])) == (3, 1)
        assert (await client.get(LIST)).content_type == "text/html"


class TestEndpoint:
    async def test_it_needs_no_credential_and_no_user_agent(
        self, aiohttp_client: AiohttpClient
    ) -> None:
        client = await aiohttp_client(create_sandbox())
        answer = await client.get("/sandbox/faults", headers={"User-Agent": ""})
        assert answer.status == 200
        assert (await client.get(LIST)).status == 401

    async def test_it_meets_no_fault(self, client: Client) -> None:
        await asked(client, "POST", "faults", {"fault": "reset"}, 201)
        answer = await client.get("/sandbox/faults", headers={"Sandbox-Fault": "reset"})
        assert answer.status == 200
        assert (await asked(client, "GET", "faults"))["rules"][0]["matched"] == 0
        assert (await asked(client, "GET", "calls"))["total"] == 0

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "nothing", 404),
            ("GET", "", 404),
            ("DELETE", "faults/one", 404),
            ("DELETE", f"faults/{'9' * 18}", 404),
            ("DELETE", f"faults/{'9' * 5000}", 404),
            ("PUT", "faults", 405),
            ("POST", "calls", 405),
        ],
    )
    async def test_what_it_does_not_know_is_refused_as_json(
        self, client: Client, method: str, path: str, status: int
    ) -> None:
        assert "message" in await asked(client, method, path, status=status)

    async def test_a_body_of_more_than_a_mebibyte_is_413(self, client: Client) -> None:
        assert "message" in await asked(client, "POST", "faults", b" " * 2_000_000, 413)


class TestCalls:
    async def test_they_are_told_with_what_became_of_them(self, client: Client) -> None:
        await client.get(f"{LIST}?per_page=1&page=2")
        await client.post(LIST, json={"send_me_a_copy": True}, headers={"Sandbox-Fault": "html"})
        await client.post(LIST, json={})
        await client.delete(f"{LIST}/409")
        await client.get("/v2/clients", headers={"Authorization": ""})
        with pytest.raises(aiohttp.ClientError):
            await client.post(
                LIST, json={"send_me_a_copy": True}, headers={"Sandbox-Fault": "close"}
            )

        report = await asked(client, "GET", "calls")

        calls = report.pop("calls")
        assert report == {
            "total": 6,
            "by_method": {"GET": 2, "POST": 3, "DELETE": 1},
            "applied": {"created": 1, "deleted": 1},
        }
        assert [tuple(call.values()) for call in calls] == [
            ("GET", LIST, "per_page=1&page=2", None, 200),
            ("POST", LIST, "", "html", 200),
            ("POST", LIST, "", None, 422),
            ("DELETE", f"{LIST}/409", "", None, 200),
            ("GET", "/v2/clients", "", None, 401),
            ("POST", LIST, "", "close", None),
        ]
        assert list(calls[0]) == ["method", "path", "query", "fault", "status"]

    async def test_they_are_forgotten(self, client: Client) -> None:
        await client.delete(f"{LIST}/409")
        await asked(client, "DELETE", "calls", status=204)
        assert await asked(client, "GET", "calls") == {
            "total": 0,
            "by_method": {},
            "applied": {"created": 0, "deleted": 0},
            "calls": [],
        }

    async def test_the_last_are_kept_and_all_are_counted(self, client: Client) -> None:
        for number in range(MOST_KEPT + 5):
            async with client.get(f"/v2/{number}"):
                pass
        report = await asked(client, "GET", "calls")
        assert report["total"] == MOST_KEPT + 5
        assert [call["path"] for call in report["calls"]] == [
            f"/v2/{number}" for number in range(5, MOST_KEPT + 5)
        ]

    async def test_no_token_is_in_them(self, client: Client) -> None:
        await client.get(f"{LIST}?access_token={SANDBOX_TOKEN}&page=1&{SANDBOX_TOKEN}")
        report = json.dumps(await asked(client, "GET", "calls"))
        assert SANDBOX_TOKEN not in report
        assert "access_token=***&page=1&***" in report

    @pytest.mark.parametrize(
        ("query", "kept"),
        [
            ("", ""),
            ("page=2&cursor=a%3D", "page=2&cursor=a%3D"),
            ("p%61ge=2", "p%61ge=2"),
            ("access%5Ftoken=s3cret", "access%5Ftoken=***"),
            ("access_token=s3cret=", "access_token=***"),
            ("s3cret", "***"),
            ("&&", "***&***&***"),
        ],
    )
    def test_only_values_of_known_parameters_are_kept(self, query: str, kept: str) -> None:
        assert shown(query) == kept


class TestCommand:
    async def test_it_starts_with_the_rules_of_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "faults.json"
        file.write_text('[{"fault": "reset", "method": "POST"}, {"fault": "hang", "skip": 1}]')
        arguments = ("sandbox", "--port", "0", "--faults", str(file), "--seed", "5")
        async with running(*arguments) as process:
            url = f"http://127.0.0.1:{await listening_port(process)}"
            async with aiohttp.ClientSession(url, headers=HEADERS) as session:
                with pytest.raises(aiohttp.ClientOSError, match="reset"):
                    await session.post(LIST, json={"send_me_a_copy": True})
                assert (await session.get(LIST)).status == 200
                listed = await (await session.get("/sandbox/faults")).json()
                with pytest.raises(TimeoutError):
                    await session.get(LIST, timeout=aiohttp.ClientTimeout(total=0.01))
            status, log = await told_to_stop(process)

        assert listed["seed"] == 5
        assert [rule["fired"] for rule in listed["rules"]] == [1, 0]
        assert (status, log) == (0, b"")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (None, "Cannot read {file}: No such file or directory"),
            ("{", "{file}: not JSON: Input data was truncated"),
            ('[{"fault": "delay"}]', "{file}: rule 1: Object missing required field `seconds`"),
        ],
    )
    def test_a_wrong_file_is_one_line(
        self, tmp_path: Path, text: str | None, complaint: str
    ) -> None:
        file = tmp_path / "faults.json"
        if text is not None:
            file.write_text(text)

        done = run_here("sandbox", "--port", "0", "--faults", str(file))

        assert done.returncode == 2
        assert the_line(done.stderr) == complaint.format(file=file)
