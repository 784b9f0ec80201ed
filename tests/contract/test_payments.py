"""Payments as a legacy client sees them, over real sockets (schemas/README.md, "Invoice payments").

The flows are tested one by one in tests/resources/test_payments.py.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.sandbox.app import SANDBOX_TOKEN
from bridge.sandbox.seeds import FIRST_NEW_PAYMENT_ID
from tests.support.faults import Door, FaultyV2, Impatience, outcomes, running_faulty_v2
from tests.support.legacy import Answer, LegacyClient, assert_valid
from tests.support.payments import PAID, PAY, paid, payment
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream

XML = {"Content-Type": "application/xml"}
CLASSIC, FINAL = "/invoice/1420/payments", "/invoices/1420/payments"
SPELLINGS = [(CLASSIC, "classic"), (FINAL, "final")]
MEMBERS = [
    *SPELLINGS,
    ("/invoice/1420/payment", "classic"),
    ("/invoices/1420/payment", "final"),
]
NOT_DONE = (502, ["Harvest has not done this: it may be sent again."])
NOT_KNOWN = (504, ["Whether Harvest has done this is not known: look first."])


async def pay(client: LegacyClient, path: str = CLASSIC, body: bytes = PAY) -> Answer:
    return await client.call("POST", path, body=body, headers=XML)


def of(amount: str) -> bytes:
    return f"<payment><amount>{amount}</amount></payment>".encode()


async def ids(client: LegacyClient) -> list[str]:
    return (await client.get(CLASSIC)).texts("id")


class TestList:
    @pytest.mark.parametrize(("path", "dialect"), SPELLINGS)
    async def test_has_all_payments_newest_first(
        self, bridge: LegacyClient, path: str, dialect: str
    ) -> None:
        answer = await bridge.get(path)

        assert answer.status == 200
        assert_valid(answer.body, f"invoice-payments/{dialect}-list")
        assert answer.xml.tag == "payments"
        assert answer.texts("id") == ["46", "45"]
        assert answer.texts("invoice-id") == ["1420"] * 2

    @pytest.mark.parametrize(("path", "dialect"), SPELLINGS)
    async def test_every_page_is_in_one_list(
        self, bridge: LegacyClient, path: str, dialect: str
    ) -> None:
        answer = await bridge.get(path.replace("1420", "4500"))

        assert_valid(answer.body, f"invoice-payments/{dialect}-list")
        assert len(set(answer.texts("id"))) == 4500

    @pytest.mark.parametrize(("path", "dialect"), SPELLINGS)
    async def test_none_are_an_empty_list(
        self, bridge: LegacyClient, path: str, dialect: str
    ) -> None:
        answer = await bridge.get(path.replace("1420", "1421"))

        assert answer.status == 200
        assert_valid(answer.body, f"invoice-payments/{dialect}-list")
        assert len(answer.xml) == 0

    async def test_has_no_filter(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says({"invoice_payments": [], "links": {"next": None}})

        await scripted_bridge.get(f"{CLASSIC}?updated_since=yesterday&page=7")

        assert upstream.received[0].query == "per_page=2000"

    async def test_of_an_invoice_that_is_not_there_is_404(self, bridge: LegacyClient) -> None:
        assert (await bridge.get("/invoice/5/payments")).status == 404

    async def test_names_what_takes_its_place(self, bridge: LegacyClient) -> None:
        answer = await bridge.get(CLASSIC)

        assert answer.headers["Link"] == (
            '<https://api.harvestapp.com/v2/invoices/1420/payments>; rel="successor-version"'
        )


class TestShow:
    @pytest.mark.parametrize(("path", "dialect"), MEMBERS)
    async def test_has_the_payment_as_the_list_has_it(
        self, bridge: LegacyClient, path: str, dialect: str
    ) -> None:
        answer = await bridge.get(f"{path}/46")

        assert answer.status == 200
        assert_valid(answer.body, f"invoice-payments/{dialect}-item")
        (listed,) = (
            each
            for each in (await bridge.get(path.replace("payment", "payments", path[-1] != "s"))).xml
            if each.findtext("id") == "46"
        )
        assert [(each.tag, each.text) for each in answer.xml] == [
            (each.tag, each.text) for each in listed
        ]

    async def test_tells_whose_transaction_it_was(self, bridge: LegacyClient) -> None:
        answer = await bridge.get(f"{FINAL}/46")

        assert answer.texts("pay-pal-transaction-id") != [""]
        assert answer.texts("authorization") == [""]

    @pytest.mark.parametrize("payment_id", ["409", "999999"])
    async def test_of_what_is_no_payment_is_404(
        self, bridge: LegacyClient, payment_id: str
    ) -> None:
        answer = await bridge.get(f"{CLASSIC}/{payment_id}")

        assert answer.status == 404
        assert answer.errors == [f"Invoice 1420 has no payment {payment_id}."]


class TestCreate:
    @pytest.mark.parametrize(("path", "dialect"), SPELLINGS)
    async def test_answers_201_with_location_and_the_payment_and_the_list_shows_it(
        self, bridge: LegacyClient, path: str, dialect: str
    ) -> None:
        answer = await pay(bridge, path)

        assert answer.status == 201
        assert answer.headers["Location"] == f"{path}/{FIRST_NEW_PAYMENT_ID}"
        assert_valid(answer.body, f"invoice-payments/{dialect}-item")
        assert answer.texts("amount") == ["1200.5"]
        assert answer.texts("paid-at") == ["2010-09-25T18:30:00Z"]
        assert answer.texts("notes") == ["By  cheque"]
        assert (await ids(bridge))[0] == str(FIRST_NEW_PAYMENT_ID)
        assert (await bridge.get(answer.headers["Location"])).body == answer.body

    async def test_asks_v2_for_just_that_and_for_no_mail(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(Reply(json.dumps(paid()).encode(), 201))

        assert (await pay(scripted_bridge)).status == 201

        (received,) = upstream.received
        assert (received.method, received.path) == ("POST", "/v2/invoices/1420/payments")
        assert json.loads(received.body) == PAID

    @pytest.mark.parametrize("elements", ["", "<send-thank-you>true</send-thank-you>"])
    async def test_no_mail_leaves_even_if_the_invoice_is_paid_whole(
        self, bridge: LegacyClient, elements: str
    ) -> None:
        """v1 sent none; v2 thanks for such a payment, unless it is told not to."""
        messages = (await bridge.get("/invoice/1420/messages")).body
        answer = await pay(
            bridge, body=f"<payment><amount>74.50</amount>{elements}</payment>".encode()
        )

        assert answer.status == 201
        assert (await bridge.get("/invoice/1420/messages")).body == messages
        closing = await bridge.call("POST", "/invoice/1420/messages/mark_as_closed")
        assert "Invoice 1420 is paid" in closing.headers["Hint"]

    async def test_a_day_stays_the_day(self, bridge: LegacyClient) -> None:
        answer = await pay(
            bridge, body=b"<payment><amount>5</amount><paid-at>2010-09-25</paid-at></payment>"
        )

        assert answer.texts("paid-at") == ["2010-09-25T00:00:00Z"]

    async def test_a_payment_that_was_read_can_be_posted_back(self, bridge: LegacyClient) -> None:
        for path, dialect in SPELLINGS:
            read = await bridge.get(f"{path}/45")
            answer = await pay(bridge, path, read.body)

            assert answer.status == 201
            assert_valid(answer.body, f"invoice-payments/{dialect}-item")
            for element in ("amount", "paid-at", "notes"):
                assert answer.texts(element) == read.texts(element)
            assert answer.texts("id") != read.texts("id")

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            pytest.param(b"<payment/>", "amount", id="no amount"),
            pytest.param(of(""), "amount", id="an empty amount"),
            pytest.param(of("1,200.50"), "amount", id="commas"),
            pytest.param(of("1e3"), "amount", id="an exponent"),
            pytest.param(of("NaN"), "amount", id="not a number"),
            pytest.param(
                b"<payment><amount>5</amount><paid-at>soon</paid-at></payment>",
                "paid-at",
                id="no point in time",
            ),
            pytest.param(
                b"<payment><amount>5</amount><amount>5</amount></payment>", "amount", id="twice"
            ),
            pytest.param(b"<invoice-message/>", "payment", id="another root"),
            pytest.param(b"<payment>", "well-formed", id="no XML"),
            pytest.param(b"", "", id="nothing"),
        ],
    )
    async def test_what_cannot_be_understood_is_400_with_a_hint_and_nothing_is_sent(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, body: bytes, word: str
    ) -> None:
        answer = await pay(scripted_bridge, body=body)

        assert (answer.status, answer.errors) == (400, [answer.headers["Hint"]])
        assert word in answer.headers["Hint"]
        assert upstream.received == []

    @pytest.mark.parametrize("amount", ["0", "-5", "0.00001"])
    async def test_a_sum_that_makes_no_sense_is_400_with_v2s_reason(
        self, bridge: LegacyClient, amount: str
    ) -> None:
        answer = await pay(bridge, body=of(amount))

        assert answer.status == 400
        assert "amount" in answer.headers["Hint"]
        assert await ids(bridge) == ["46", "45"]

    async def test_on_a_draft_is_400_with_v2s_reason(self, bridge: LegacyClient) -> None:
        answer = await pay(bridge, "/invoice/1421/payments")

        assert answer.status == 400
        assert answer.errors == [answer.headers["Hint"]]

    async def test_on_an_invoice_that_is_not_there_is_404(self, bridge: LegacyClient) -> None:
        assert (await pay(bridge, "/invoice/5/payments")).status == 404

    async def test_of_what_is_no_xml_is_415(self, bridge: LegacyClient) -> None:
        answer = await bridge.call(
            "POST", CLASSIC, body=b"{}", headers={"Content-Type": "application/json"}
        )

        assert answer.status == 415


class TestDelete:
    @pytest.mark.parametrize("path", [path for path, _ in MEMBERS])
    async def test_is_200_without_a_body_and_then_404(
        self, bridge: LegacyClient, path: str
    ) -> None:
        answer = await bridge.call("DELETE", f"{path}/46")

        assert (answer.status, answer.body) == (200, b"")
        assert await ids(bridge) == ["45"]
        assert (await bridge.call("DELETE", f"{path}/46")).status == 404


class TestMethods:
    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    @pytest.mark.parametrize("path", [path for path, _ in MEMBERS])
    async def test_no_payment_can_be_changed(
        self, bridge: LegacyClient, path: str, method: str
    ) -> None:
        answer = await bridge.call(method, f"{path}/46", body=PAY, headers=XML)

        assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, GET, HEAD")
        assert answer.errors

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    @pytest.mark.parametrize("path", [CLASSIC, FINAL])
    async def test_nor_can_their_list(self, bridge: LegacyClient, path: str, method: str) -> None:
        answer = await bridge.call(method, path)

        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")

    @pytest.mark.parametrize("path", [CLASSIC, f"{CLASSIC}/46"])
    async def test_head_is_get_without_a_body(self, bridge: LegacyClient, path: str) -> None:
        answer = await bridge.call("HEAD", path)

        assert (answer.status, answer.body) == (200, b"")

    @pytest.mark.parametrize(
        "path", [f"{CLASSIC}.xml", f"{CLASSIC}/", "/invoices/%231420/payments.xml/"]
    )
    async def test_what_is_tolerated_in_paths_is_here_too(
        self, bridge: LegacyClient, path: str
    ) -> None:
        answer = await bridge.get(path)

        assert answer.texts("id") == ["46", "45"]


class TestAnswersThatCannotBeTold:
    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"amount": "ten"}, id="amount"),
            pytest.param({"paid_at": "soon"}, id="time"),
            pytest.param({"payment_gateway": []}, id="gateway"),
            pytest.param({"id": None}, id="id"),
        ],
    )
    async def test_are_502(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, fields: dict[str, Any]
    ) -> None:
        upstream.says({"invoice_payments": [payment(**fields)], "links": {"next": None}})

        answer = await scripted_bridge.get(CLASSIC)

        assert answer.status == 502
        assert answer.errors


@pytest.fixture
async def v2(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyV2]:
    """A sandbox that can be told to fail; nobody waits between tries and looks."""
    Impatience(monkeypatch)
    async with running_faulty_v2(Door.OPEN) as faulty:
        yield faulty


@pytest.fixture
async def client(v2: FaultyV2, journal: Path) -> AsyncIterator[LegacyClient]:
    async with running_bridge(v2.base_url, journal=journal) as legacy:
        yield legacy


async def paid_to(v2: FaultyV2) -> list[int]:
    """Return the ids of the payments that v2 has, newest first."""
    page = await v2.ask("GET", "/invoices/1420/payments")
    return [each["id"] for each in page["invoice_payments"]]


async def leave_unknown(v2: FaultyV2, client: LegacyClient, *, applied: bool) -> None:
    """Have a payment's outcome stay unknown, though v2 has recorded it, or has not."""
    rules = [
        {"fault": "reset", "method": "POST", "applied": applied},
        {"fault": "status", "method": "GET", "status": 500},
    ]
    await v2.misbehave(rules, once=False)
    answer = await pay(client)
    assert (answer.status, answer.errors) == NOT_KNOWN
    await v2.behave()


class TestALostAnswer:
    """A payment that is made twice is worse than none."""

    @pytest.mark.parametrize(
        "rule",
        [
            {"fault": "reset", "applied": True},
            {"fault": "close", "at": "body", "applied": True},
            {"fault": "status", "status": 502, "applied": True},
            {"fault": "malformed-json"},
        ],
        ids=lambda rule: rule["fault"],
    )
    async def test_is_found_by_the_look_and_the_payment_is_made_once(
        self, v2: FaultyV2, client: LegacyClient, journal: Path, rule: dict[str, Any]
    ) -> None:
        await v2.misbehave([{"method": "POST", **rule}], once=True)

        answer = await pay(client)

        assert answer.status == 201
        assert answer.headers["Location"] == f"{CLASSIC}/{FIRST_NEW_PAYMENT_ID}"
        assert_valid(answer.body, "invoice-payments/classic-item")
        assert await paid_to(v2) == [FIRST_NEW_PAYMENT_ID, 46, 45]
        assert (await v2.received())["POST"] == 1
        assert outcomes(journal) == ["done"]

    async def test_of_a_payment_that_was_not_made_is_told_so(
        self, v2: FaultyV2, client: LegacyClient, journal: Path
    ) -> None:
        await v2.misbehave([{"method": "POST", "fault": "reset"}], once=True)

        answer = await pay(client)

        assert (answer.status, answer.errors) == NOT_DONE
        assert await paid_to(v2) == [46, 45]
        assert outcomes(journal) == ["absent"]

    @pytest.mark.parametrize("applied", [True, False])
    @pytest.mark.parametrize("path", [CLASSIC, FINAL])
    async def test_that_stayed_unknown_is_settled_by_the_same_again(
        self, v2: FaultyV2, client: LegacyClient, journal: Path, path: str, applied: bool
    ) -> None:
        await leave_unknown(v2, client, applied=applied)
        assert outcomes(journal) == ["unknown"]

        answer = await pay(client, path)

        assert (answer.status, answer.headers["Location"]) == (
            201,
            f"{path}/{FIRST_NEW_PAYMENT_ID}",
        )
        assert await paid_to(v2) == [FIRST_NEW_PAYMENT_ID, 46, 45]
        assert (await v2.received())["POST"] == (1 if applied else 2)
        assert outcomes(journal) == ["done"]

    async def test_of_another_sum_is_another_payment(
        self, v2: FaultyV2, client: LegacyClient
    ) -> None:
        await leave_unknown(v2, client, applied=True)

        answer = await pay(client, body=PAY.replace(b"1200.50", b"1200.51"))

        assert answer.texts("amount") == ["1200.51"]
        assert len(await paid_to(v2)) == 4

    async def test_that_was_told_after_all_makes_the_same_again_a_new_payment(
        self, v2: FaultyV2, client: LegacyClient
    ) -> None:
        await v2.misbehave([{"method": "POST", "fault": "reset", "applied": True}], once=True)
        first, second = await pay(client), await pay(client)

        assert first.headers["Location"] != second.headers["Location"]
        assert len(await paid_to(v2)) == 4

    async def test_at_the_same_time_payments_wait_for_each_other(
        self, v2: FaultyV2, client: LegacyClient
    ) -> None:
        await v2.misbehave([{"method": "POST", "fault": "reset", "applied": True}], once=True)
        await client.get(CLASSIC)  # so that v2 has accepted the token
        bodies = [of(f"{number}.5") for number in range(1, 6)]
        answers = await asyncio.gather(*(pay(client, body=body) for body in bodies))

        assert [each.texts("amount") for each in answers] == [[f"{n}.5"] for n in range(1, 6)]
        assert len({each.headers["Location"] for each in answers}) == 5
        assert len(await paid_to(v2)) == 7

    async def test_a_delete_that_may_have_been_served_is_done(
        self, v2: FaultyV2, client: LegacyClient
    ) -> None:
        await v2.misbehave([{"method": "DELETE", "fault": "reset", "applied": True}], once=True)

        assert (await client.call("DELETE", f"{CLASSIC}/46")).status == 200
        assert await paid_to(v2) == [45]


async def reconcile(journal: Path, upstream: str) -> Result:
    """Run the command, in a thread, for it has an event loop of its own."""
    runner = CliRunner(env={"SOME_TOKEN": SANDBOX_TOKEN})
    return await asyncio.to_thread(
        runner.invoke,
        app,
        [
            "journal", "--reconcile", "--journal", str(journal), "--upstream", upstream,
            "--contact=ops@example.com", "--token=env:SOME_TOKEN",
        ],
        catch_exceptions=False,
    )  # fmt: skip


class TestTheJournal:
    @pytest.mark.parametrize("applied", [True, False])
    async def test_can_have_what_is_unknown_settled(
        self, v2: FaultyV2, client: LegacyClient, journal: Path, applied: bool
    ) -> None:
        await leave_unknown(v2, client, applied=applied)

        done = await reconcile(journal, v2.base_url)

        assert (done.exit_code, done.stderr) == (0, "")
        assert outcomes(journal) == ["done" if applied else "absent"]
        if applied:
            assert str(FIRST_NEW_PAYMENT_ID) in done.stdout
        assert (await v2.received())["POST"] == 1

    async def test_holds_nothing_of_a_payment_in_the_clear(
        self, v2: FaultyV2, client: LegacyClient, journal: Path
    ) -> None:
        await leave_unknown(v2, client, applied=True)

        kept = b"".join(path.read_bytes() for path in journal.parent.glob(f"{journal.name}*"))
        assert b"/invoices/1420/payments" in kept
        for said in (b"1200.5", b"cheque", b"2010-09-25"):
            assert said not in kept
