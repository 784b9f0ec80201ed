"""The sandbox's v1 answers as v1 did, over the state of its v2."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from lxml import etree

from bridge.sandbox.seeds import (
    SANDBOX_LIMITED_TOKEN,
    SANDBOX_SECOND_TOKEN,
    SANDBOX_TOKEN,
    USERS,
    V1_PASSWORDS,
)
from bridge.sandbox.v1.app import NOT_AUTHENTICATED
from tests.sandbox.conftest import Client, Clock, Start


def as_(token: str, **headers: str) -> dict[str, str]:
    """The headers of a token's user."""
    basic = aiohttp.encode_basic_auth(USERS[token].email, V1_PASSWORDS[token])
    return {"Authorization": basic, **headers}


BOB = as_(SANDBOX_TOKEN)
SUE = as_(SANDBOX_SECOND_TOKEN, Host="second.harvestapp.com")
MESSAGE = b"<invoice-message><recipients>Jane Doe &lt;jane@doe.org&gt;</recipients><subject>S</subject><body>B</body></invoice-message>"
PAYMENT = b"<payment><amount>74.50</amount><paid-at type='datetime'>2008-05-01T00:00:00Z</paid-at></payment>"


class Answer:
    """An answer, read."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def root(self) -> Any:
        return etree.fromstring(self.body)

    def texts(self, path: str) -> list[str]:
        return [element.text or "" for element in self.root.findall(path)]


class V1:
    """A client of the sandbox's v1, as Bob unless it is told otherwise."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = BOB,
    ) -> Answer:
        data = None if body is None else BytesIO(body)
        async with self.client.request(
            method, path, data=data, headers=headers, allow_redirects=False
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


@pytest.fixture
async def v1(client: Client, v1_of: Start) -> V1:
    return V1(await v1_of(client))


class TestWhoIsCalling:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            pytest.param(BOB, 200, id="by an address: the first account"),
            pytest.param({**BOB, "Host": "localhost"}, 200, id="without a subdomain, likewise"),
            pytest.param({**BOB, "Host": "api-examples.harvestapp.com"}, 200, id="his subdomain"),
            pytest.param({**BOB, "Host": "API-Examples.example:80"}, 200, id="any domain"),
            pytest.param({**BOB, "Host": "[::1]:80"}, 200, id="an address of IPv6"),
            pytest.param({**BOB, "Host": "second.harvestapp.com"}, 401, id="another's subdomain"),
            pytest.param({**BOB, "Host": "nobody.harvestapp.com"}, 401, id="nobody's subdomain"),
            pytest.param(SUE, 200, id="her subdomain"),
            pytest.param({}, 401, id="nobody"),
            pytest.param({"Authorization": "Basic Zm9v"}, 401, id="no pair"),
            pytest.param({"Authorization": "Basic \u00ff"}, 401, id="no base64"),
            pytest.param({"Authorization": f"Bearer {SANDBOX_TOKEN}"}, 401, id="a token of v2"),
            pytest.param(
                {"Authorization": aiohttp.encode_basic_auth("bobpowell@example.com", "?")},
                401,
                id="wrong password",
            ),
            pytest.param(
                {"Authorization": BOB["Authorization"].replace(" ", " (") + ")"},
                200,
                id="in parentheses, as a PHP client has it",
            ),
        ],
    )
    async def test_is_told_by_subdomain_login_and_password(
        self, v1: V1, headers: Mapping[str, str], status: int
    ) -> None:
        assert (await v1("GET", "/account/who_am_i", headers=headers)).status == status

    async def test_a_refusal_is_the_sentence_that_clients_compare(self, v1: V1) -> None:
        answer = await v1("GET", "/no/such/path", headers={})
        assert (answer.status, answer.body.decode()) == (401, NOT_AUTHENTICATED)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Harvest"'

    async def test_who_am_i_names_v1s_own_host(self, v1: V1) -> None:
        answer = await v1("GET", "/account/who_am_i.xml", headers=SUE)
        assert answer.texts("company/base-uri") == ["https://second.harvestapp.com"]
        assert answer.texts("user/timezone-utc-offset") == ["7200"]
        assert answer.texts("user/project-manager/is-project-manager") == ["false"]

    async def test_a_member_sees_who_she_is_and_nothing_else(self, v1: V1) -> None:
        mary = as_(SANDBOX_LIMITED_TOKEN)
        assert (await v1("GET", "/account/who_am_i", headers=mary)).status == 200
        assert (await v1("GET", "/invoice/1420/messages", headers=mary)).status == 404

    async def test_the_rate_limit_is_counted_by_account(self, v1: V1, clock: Clock) -> None:
        await v1("GET", "/clients")
        await v1("GET", "/clients", headers=SUE)
        status = await v1("GET", "/account/rate_limit_status")
        assert status.texts("count") == ["2"]
        assert status.texts("last-access-at") == ["2017-08-23T22:25:59+00:00"]
        clock.advance(15)
        assert (await v1("GET", "/account/rate_limit_status")).texts("count") == ["1"]

    async def test_beyond_the_limit_calls_are_told_to_wait(
        self, client: Client, v1_of: Start, clock: Clock
    ) -> None:
        v1 = V1(await v1_of(client, throttle=True))
        for _ in range(100):
            assert (await v1("GET", "/account/who_am_i")).status == 200
        clock.advance(5.5)
        refused = await v1("GET", "/account/who_am_i")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")


class TestMessages:
    async def test_the_edition_of_2008_is_as_printed(self, v1: V1) -> None:
        answer = await v1("GET", "/invoice/1420/messages/403")
        assert answer.body.decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            "<invoice-message>\n"
            "  <body>Anther message body goes here</body>\n"
            '  <created-at type="datetime">2008-04-09T20:46:34Z</created-at>\n'
            '  <id type="integer">403</id>\n'
            '  <invoice-id type="integer">1420</invoice-id>\n'
            '  <send-me-a-copy type="boolean">true</send-me-a-copy>\n'
            "  <sent-by>My Name</sent-by>\n"
            "  <sent-by-email>my@email.com</sent-by-email>\n"
            "  <full-recipient-list>Jane Doe &lt;jane@doe.org&gt;, My Name &lt;my@email.com&gt;"
            "</full-recipient-list>\n"
            "</invoice-message>\n"
        )

    @pytest.mark.parametrize(
        ("path", "root", "elements"),
        [
            ("/invoice/1420/messages", "invoice-messages", 8),
            ("/invoices/1420/messages", "invoice-message", 15),
            ("/invoices/1420/messages.xml", "invoice-message", 15),
            ("/invoices/1420/messages/", "invoice-message", 15),
        ],
    )
    async def test_each_edition_has_its_root_and_elements(
        self, v1: V1, path: str, root: str, elements: int
    ) -> None:
        answer = await v1("GET", path)
        assert (answer.root.tag, answer.root.get("type")) == (root, "array")
        assert [len(item) for item in answer.root] == [elements] * 2

    @pytest.mark.parametrize(
        ("path", "root"),
        [
            ("/invoice/1421/messages", "nil-classes"),
            ("/invoices/1421/messages", "invoice-message"),
            ("/invoice/1421/payments", "nil-classes"),
            ("/invoices/1421/payments", "payments"),
        ],
    )
    async def test_an_empty_list(self, v1: V1, path: str, root: str) -> None:
        answer = await v1("GET", path)
        assert (answer.root.tag, len(answer.root)) == (root, 0)

    async def test_a_list_since_a_time(self, v1: V1) -> None:
        answer = await v1("GET", "/invoice/1420/messages?updated_since=2008-04-09+20:46")
        assert answer.texts("invoice-message/id") == ["403"]

    async def test_carriage_returns_are_written_as_they_are(self, v1: V1) -> None:
        answer = await v1("GET", "/invoices/13150403/messages/27835209")
        assert b"Dear Customer,\r\n\r\n" in answer.body

    async def test_every_message_of_a_long_list(self, v1: V1) -> None:
        answer = await v1("GET", "/invoices/4500/messages")
        assert len(answer.root) == 4500

    async def test_a_message_is_sent_and_is_there_in_v2(self, v1: V1, client: Client) -> None:
        answer = await v1("POST", "/invoice/1420/messages", MESSAGE)
        assert (answer.status, answer.body.strip()) == (201, b"")
        assert answer.headers["Location"] == "/invoice/1420/messages/27835324"
        newest = (await (await client.get("/v2/invoices/1420/messages")).json())[
            "invoice_messages"
        ][0]
        assert (newest["id"], newest["subject"], newest["body"]) == (27835324, "S", "B")
        assert newest["recipients"] == [{"name": "Jane Doe", "email": "jane@doe.org"}]
        assert newest["sent_by"] == "Bob Powell"

    async def test_what_v2_creates_is_there_in_v1(self, v1: V1, client: Client) -> None:
        made = await (
            await client.post("/v2/invoices/1420/messages", json={"send_me_a_copy": True})
        ).json()
        assert (await v1("GET", f"/invoices/1420/message/{made['id']}")).status == 200

    async def test_the_state_of_an_invoice_is_changed(self, v1: V1) -> None:
        for event in ("mark_as_sent", "mark_as_closed", "re_open", "mark_as_draft"):
            answer = await v1("POST", f"/invoices/1421/messages/{event}", b"")
            assert (answer.status, answer.headers.get("Location")) == (200, None)
        assert len((await v1("GET", "/invoices/1421/messages")).root) == 4

    async def test_re_open_stores_no_body(self, v1: V1) -> None:
        body = b"<invoice-message><body>Why</body></invoice-message>"
        await v1("POST", "/invoices/1420/messages/mark_as_closed", body)
        await v1("POST", "/invoices/1420/messages/re_open", body)
        bodies = (await v1("GET", "/invoices/1420/messages")).texts("invoice-message/body")
        assert bodies[:2] == ["", "Why"]

    async def test_a_message_is_deleted(self, v1: V1) -> None:
        answer = await v1("DELETE", "/invoice/1420/messages/409")
        assert (answer.status, answer.body.strip()) == (200, b"")
        assert (await v1("DELETE", "/invoice/1420/messages/409")).status == 404

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("messages", b"<invoice-message/>"),
            ("messages", b"<invoice-message><recipients>Jane</recipients></invoice-message>"),
            ("messages", b"<invoice-message>"),
            ("messages", b""),
            ("messages", b"<payment/>"),
            ("messages", b"<!DOCTYPE a [<!ENTITY b 'c'>]><invoice-message>&b;</invoice-message>"),
            ("messages/mark_as_sent", b""),
            ("payments", b"<payment><amount>much</amount></payment>"),
            ("payments", b"<payment><amount>-1</amount></payment>"),
            ("payments", b"<payment><amount>1</amount><paid-at>once</paid-at></payment>"),
        ],
    )
    async def test_what_cannot_be_done_is_400_with_a_hint(
        self, v1: V1, path: str, body: bytes
    ) -> None:
        answer = await v1("POST", f"/invoices/1420/{path}", body)
        assert answer.status == 400
        assert answer.texts("error") == [answer.headers["Hint"]]


class TestPayments:
    async def test_the_edition_of_2015_knows_the_processor(self, v1: V1) -> None:
        answer = await v1("GET", "/invoices/1420/payments/46")
        assert answer.texts("pay-pal-transaction-id") == ["4XK51226GL0713628"]
        assert answer.root.find("authorization").get("nil") == "true"
        assert answer.texts("amount") == ["25.5"]

    async def test_a_payment_is_recorded_and_mails_nobody(self, v1: V1) -> None:
        answer = await v1("POST", "/invoices/1420/payments", PAYMENT)
        assert answer.headers["Location"] == "/invoice/1420/payments/10336386"
        shown = await v1("GET", "/invoice/1420/payment/10336386")
        assert shown.texts("paid-at") == ["2008-05-01T00:00:00Z"]
        assert len((await v1("GET", "/invoice/1420/messages")).root) == 2
        assert (await v1("GET", "/invoices/1420")).texts("state") == ["paid"]

    async def test_a_payment_is_deleted(self, v1: V1) -> None:
        assert (await v1("DELETE", "/invoice/1420/payments/45")).status == 200
        assert (await v1("GET", "/invoices/1420")).texts("due-amount") == ["124.5"]


class TestWhatTheBridgeDoesNotTranslate:
    async def test_clients_are_created_listed_and_shown(self, v1: V1) -> None:
        made = await v1("POST", "/clients", "<client><name>Zoë</name></client>".encode())
        assert (made.status, made.headers["Location"]) == (201, "/clients/5735777")
        assert (await v1("GET", "/clients")).texts("client/name")[0] == "Zoë"
        assert (await v1("GET", made.headers["Location"])).texts("name") == ["Zoë"]
        assert "Zoë" not in (await v1("GET", "/clients", headers=SUE)).texts("client/name")

    async def test_a_client_needs_a_name(self, v1: V1) -> None:
        assert (await v1("POST", "/clients", b"<client/>")).headers["Hint"] == "Name can't be blank"

    async def test_a_client_outlives_a_restart(
        self, start: Start, v1_of: Start, tmp_path: Any
    ) -> None:
        file = str(tmp_path / "sandbox.sqlite")
        first = await start(database=file)
        await V1(await v1_of(first))("POST", "/clients", b"<client><name>A</name></client>")
        await first.close()
        second = V1(await v1_of(await start(database=file)))
        assert (await second("GET", "/clients/5735777")).texts("name") == ["A"]

    async def test_projects_of_a_client(self, v1: V1) -> None:
        assert (await v1("GET", "/projects?client=5735776")).texts("project/id") == ["14308069"]
        assert (await v1("GET", "/projects/4714")).status == 404
        assert (await v1("GET", "/projects/4714", headers=SUE)).status == 200

    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ("", ["13150403", "4500", "1421", "1420"]),
            ("?status=draft", ["1421"]),
            ("?status=unpaid&client=4711", ["1420"]),
            ("?status=partial", ["4500", "1420"]),
            ("?page=2", []),
        ],
    )
    async def test_invoices_are_browsed(self, v1: V1, query: str, ids: list[str]) -> None:
        assert (await v1("GET", f"/invoices{query}")).texts("invoice/id") == ids

    async def test_an_invoice_has_its_lines(self, v1: V1) -> None:
        (lines,) = (await v1("GET", "/invoices/1420")).texts("csv-line-items")
        assert lines.splitlines()[0] == (
            "kind,description,quantity,unit_price,amount,taxed,taxed2,project_id"
        )
        assert (await v1("GET", "/invoices/1420", headers=SUE)).status == 404

    async def test_a_receipt_of_any_length_comes_back_as_it_went(self, v1: V1) -> None:
        image = bytes(range(256)) * 20_000  # five times what any other body may have
        form = aiohttp.FormData()
        form.add_field(
            "expense[receipt]", BytesIO(image), content_type="image/png", filename="r.png"
        )
        async with v1.client.post("/expenses/7/receipt", data=form, headers=BOB) as sent:
            assert sent.status == 200
        shown = await v1("GET", "/expenses/7/receipt")
        assert (shown.body == image, shown.headers["Content-Type"]) == (True, "image/png")
        assert (await v1("GET", "/expenses/8/receipt")).status == 404
        assert (await v1("POST", "/expenses/7/receipt", b"image")).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/invoices/99/messages"),
        ("GET", "/invoices/2420/messages"),
        ("GET", "/invoices/0/messages"),
        ("GET", "/invoices/99999999999999999999/messages"),
        ("GET", "/invoices/1420/messages/1"),
        ("GET", "/invoices/1420/messages/new"),
        ("PUT", "/invoices/1420/messages/409"),
        ("GET", "/clients/1"),
    ],
)
async def test_what_is_not_there_is_404_without_a_body(v1: V1, method: str, path: str) -> None:
    answer = await v1(method, path)
    assert (answer.status, answer.body.strip()) == (404, b"")


async def test_head_answers_as_get(v1: V1) -> None:
    shown, asked = await v1("GET", "/clients"), await v1("HEAD", "/clients")
    assert (asked.status, asked.body) == (200, b"")
    assert asked.headers["Content-Length"] == shown.headers["Content-Length"]
    assert asked.headers["Status"] == "200 OK"
