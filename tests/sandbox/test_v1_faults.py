"""The sandbox's v1 misbehaves, and differs, as it was told; what was planted is told exactly."""

import asyncio
import json
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from lxml import etree

from bridge.sandbox.faults import read_rules
from bridge.sandbox.v1.faults import V1_FAULTS, Planted
from bridge.sandbox.v1.planting import plant
from tests.sandbox.conftest import Client, Start
from tests.sandbox.test_v1 import BOB, V1

LIST = "/invoice/1420/messages"
NEEDED: dict[str, dict[str, Any]] = {
    "delay": {"seconds": 0},
    "trickle": {"bytes": 100, "seconds": 0},
    "status": {"status": 410},
    "redirect": {"location": "/elsewhere"},
    "framed": {"by": "chunks"},
}


@pytest.fixture
async def v1(client: Client, v1_of: Start) -> V1:
    return V1(await v1_of(client))


async def control(v1: V1, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else BytesIO(json.dumps(body).encode())
    async with v1.client.request(method, f"/sandbox/{path}", data=data) as answer:
        return await answer.json() if answer.status != 204 else None


async def planted(v1: V1) -> list[Any]:
    return list((await control(v1, "GET", "differences"))["planted"])


async def raw(v1: V1, path: str) -> bytes:
    """All that comes on a connection until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", v1.client.server.port)
    lines = [f"GET {path} HTTP/1.1", "Host: v1", *(f"{k}: {v}" for k, v in BOB.items())]
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    try:
        return await reader.read()
    finally:
        writer.close()


class TestFaults:
    async def test_v1_and_v2_have_rules_of_their_own(self, v1: V1, client: Client) -> None:
        await control(v1, "POST", "faults", {"fault": "status", "status": 410})
        assert (await v1("GET", "/clients")).status == 410
        assert (await client.get("/v2/invoices/1420/messages")).status == 200

    @pytest.mark.parametrize("fault", ["cursor-loop", "wrong-type"])
    async def test_a_fault_of_json_is_none_of_v1s(self, v1: V1, fault: str) -> None:
        refused = await control(v1, "POST", "faults", {"fault": fault})
        assert refused["message"].startswith("`fault` must be one of delay, ")

    async def test_rules_know_the_account_that_is_called_and_who_calls(self, v1: V1) -> None:
        rules = [
            {"fault": "status", "status": 418, "account_id": 2000},
            {"fault": "status", "status": 410, "token": "sandbox-token"},
        ]
        await control(v1, "POST", "faults", rules)
        assert (await v1("GET", "/clients")).status == 410
        assert (await v1("GET", "/clients", headers={"Host": "second.x"})).status == 401

    @pytest.mark.parametrize("name", [name for name in V1_FAULTS if name != "hang"])
    async def test_every_fault_can_be_asked_for_by_one_call(self, v1: V1, name: str) -> None:
        needed = NEEDED.get(name, {})
        if issubclass(V1_FAULTS[name], Planted):
            needed = {"element": "id"}
        asked = {**BOB, "Sandbox-Fault": json.dumps({"fault": name, **needed})}
        try:
            await v1("GET", LIST, headers=asked)
        except aiohttp.ClientError:
            assert name in {"reset", "close", "truncate", "not-http"}
        (call,) = (await control(v1, "GET", "calls"))["calls"]
        assert call["fault"] == name

    async def test_a_redirect_leads_where_it_was_told(self, v1: V1) -> None:
        rule = {"fault": "redirect", "location": "https://other.example/", "status": 301}
        await control(v1, "POST", "faults", rule)
        answer = await v1("GET", "/clients")
        assert (answer.status, answer.headers["Location"]) == (301, "https://other.example/")

    @pytest.mark.parametrize(
        ("by", "said", "unsaid"),
        [
            ("length", b"content-length: 100000", b"transfer-encoding"),
            ("chunks", b"transfer-encoding: chunked", b"content-length"),
            ("close", b"connection: close", b"content-length"),
        ],
    )
    async def test_the_end_of_an_answer_is_told_in_any_way(
        self, v1: V1, by: str, said: bytes, unsaid: bytes
    ) -> None:
        await control(v1, "POST", "faults", {"fault": "framed", "by": by, "bytes": 100_000})
        head = (await raw(v1, LIST)).partition(b"\r\n\r\n")[0].lower()
        assert said in head
        assert unsaid not in head
        answer = await v1("GET", LIST)
        assert (len(answer.body), answer.root.tag) == (100_000, "invoice-messages")


class TestDifferences:
    @pytest.mark.parametrize(
        ("rule", "before", "after", "at"),
        [
            pytest.param(
                {"fault": "other-value", "element": "id", "value": "7"},
                "<id>45</id><notes>Paid</notes>",
                "<id>7</id><notes>Paid</notes>",
                "/payment/id",
            ),
            pytest.param(
                {"fault": "other-value", "element": "notes", "value": "7"},
                "<id>45</id><notes nil='true'/>",
                "<id>45</id><notes>7</notes>",
                "/payment/notes",
            ),
            pytest.param(
                {"fault": "other-type", "element": "id"},
                "<id>45</id><notes>Paid</notes>",
                "<id type='planted'>45</id><notes>Paid</notes>",
                "/payment/id",
            ),
            pytest.param(
                {"fault": "missing-element", "element": "id"},
                "<id>45</id><notes>Paid</notes>",
                "<notes>Paid</notes>",
                "/payment/id",
            ),
            pytest.param(
                {"fault": "extra-element", "element": "id"},
                "<id>45</id><notes>Paid</notes>",
                "<id>45</id><planted>planted</planted><notes>Paid</notes>",
                "/payment/id",
            ),
            pytest.param(
                {"fault": "swapped-elements", "element": "id"},
                "<id>45</id><notes>Paid</notes>",
                "<notes>Paid</notes><id>45</id>",
                "/payment/id",
            ),
        ],
    )
    def test_what_each_does(self, rule: dict[str, Any], before: str, after: str, at: str) -> None:
        (new,) = read_rules(json.dumps(rule).encode(), V1_FAULTS)
        assert isinstance(new.fault, Planted)
        document, where = plant(f"<payment>{before}</payment>".encode(), new.fault) or (b"", "")
        assert (plain(document), where) == (plain(f"<payment>{after}</payment>".encode()), at)

    @pytest.mark.parametrize(
        "rule",
        [
            {"fault": "other-value", "element": "id", "value": "45"},
            {"fault": "other-value", "element": "payment"},
            {"fault": "other-type", "element": "id", "type": "integer"},
            {"fault": "missing-element", "element": "amount"},
            {"fault": "missing-element", "element": "id", "number": 2},
            {"fault": "missing-element", "element": "payment"},
            {"fault": "extra-element", "element": "payment"},
            {"fault": "swapped-elements", "element": "notes"},
            {"fault": "swapped-elements", "element": "notes", "number": 2},
        ],
    )
    def test_where_nothing_would_be_changed_nothing_is_planted(self, rule: dict[str, Any]) -> None:
        (new,) = read_rules(json.dumps(rule).encode(), V1_FAULTS)
        assert isinstance(new.fault, Planted)
        document = b"<payment><id type='integer'>45</id><notes>a</notes><notes>a</notes></payment>"
        assert plant(document, new.fault) is None

    async def test_every_nth_answer_differs_and_is_told(self, v1: V1) -> None:
        rule = {"fault": "other-value", "element": "body", "number": 2, "path": "/invoice/.*"}
        await control(v1, "POST", "faults", {**rule, "skip": 1, "every": 3})
        for n in range(8):
            await v1("GET", LIST, headers={**BOB, "X-Request-Id": f"call-{n}"})
            await v1("GET", "/clients")
        assert [each["request_id"] for each in await planted(v1)] == ["call-1", "call-4", "call-7"]
        assert {each["at"] for each in await planted(v1)} == {
            "/invoice-messages/invoice-message[2]/body"
        }
        (rule_in_force,) = (await control(v1, "GET", "faults"))["rules"]
        assert (rule_in_force["matched"], rule_in_force["fired"]) == (8, 3)
        await control(v1, "DELETE", "differences")
        assert await control(v1, "GET", "differences") == {"total": 0, "planted": []}

    async def test_the_same_seed_plants_the_same(self, v1: V1) -> None:
        rule = {"fault": "missing-element", "element": "notes", "probability": 0.5}
        await control(v1, "POST", "faults", rule)
        runs = []
        for _ in range(2):
            await control(v1, "POST", "seed", {"seed": 42})
            await control(v1, "DELETE", "differences")
            for n in range(12):
                await v1(
                    "GET", "/invoice/1420/payments/45", headers={**BOB, "X-Request-Id": f"{n}"}
                )
            runs.append([each["request_id"] for each in await planted(v1)])
        assert runs[0] == runs[1]
        assert 0 < len(runs[0]) < 12

    async def test_a_refusal_has_no_difference(self, v1: V1) -> None:
        await control(v1, "POST", "faults", {"fault": "other-value", "element": "error"})
        await v1("POST", LIST, b"<invoice-message/>")
        await v1("GET", "/invoices/1420/messages/1")
        assert await planted(v1) == []


def plain(document: bytes) -> bytes:
    """A document without the white space between its elements."""
    parser = etree.XMLParser(remove_blank_text=True)
    return etree.tostring(etree.fromstring(document, parser), method="c14n")
