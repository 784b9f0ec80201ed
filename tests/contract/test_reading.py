"""List, show and delete, as a legacy client sees them (schemas/README.md, "Invoice messages")."""

from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from tests.support.legacy import LegacyClient, assert_valid
from tests.support.upstream import ScriptedUpstream, message, page

CLASSIC = [
    "body",
    "created-at",
    "id",
    "invoice-id",
    "send-me-a-copy",
    "sent-by",
    "sent-by-email",
    "full-recipient-list",
]
FINAL = [
    "id",
    "invoice-id",
    "send-me-a-copy",
    "body",
    "created-at",
    "sent-by",
    "sent-by-email",
    "thank-you",
    "subject",
    "include-pay-pal-link",
    "updated-at",
    "sent-from-email",
    "sent-from",
    "send-reminder-on",
    "full-recipient-list",
]
TWELVE = {
    *("id", "invoice-id", "body", "subject", "created-at", "updated-at", "sent-by"),
    *("sent-by-email", "send-me-a-copy", "thank-you", "include-pay-pal-link"),
    "full-recipient-list",
}
"""The elements of a message from 2010 to 2013."""


class TestList:
    async def test_classic_is_as_published(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoice/1420/messages")

        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
        assert (
            answer.body.decode()
            == """\
<?xml version="1.0" encoding="UTF-8"?>
<invoice-messages type="array">
  <invoice-message>
    <body>Anther message body goes here</body>
    <created-at type="datetime">2008-04-09T20:46:34Z</created-at>
    <id type="integer">403</id>
    <invoice-id type="integer">1420</invoice-id>
    <send-me-a-copy type="boolean">true</send-me-a-copy>
    <sent-by>My Name</sent-by>
    <sent-by-email>my@email.com</sent-by-email>
    <full-recipient-list>Jane Doe &lt;jane@doe.org&gt;, My Name &lt;my@email.com&gt;</full-recipient-list>
  </invoice-message>
  <invoice-message>
    <body>The message body goes here</body>
    <created-at type="datetime">2008-04-09T20:44:54Z</created-at>
    <id type="integer">409</id>
    <invoice-id type="integer">1420</invoice-id>
    <send-me-a-copy type="boolean">true</send-me-a-copy>
    <sent-by>My Name</sent-by>
    <sent-by-email>my@email.com</sent-by-email>
    <full-recipient-list>Jane Doe &lt;jane@doe.org&gt;, My Name &lt;my@email.com&gt;</full-recipient-list>
  </invoice-message>
</invoice-messages>
"""
        )

    async def test_final_has_a_root_named_as_its_items(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoices/1420/messages")

        assert_valid(answer.body, "invoice-messages/final-list")
        assert answer.xml.tag == "invoice-message"
        assert dict(answer.xml.items()) == {"type": "array"}
        assert [item.tag for item in answer.xml] == ["invoice-message"] * 2

    @pytest.mark.parametrize(
        ("path", "elements"),
        [
            pytest.param("/invoice/13150403/messages", CLASSIC, id="classic"),
            pytest.param("/invoices/13150403/messages", FINAL, id="final"),
        ],
    )
    async def test_elements_stand_in_the_order_of_their_dialect(
        self, bridge: LegacyClient, path: str, elements: list[str]
    ) -> None:
        answer = await bridge.get(path)

        assert [[element.tag for element in item] for item in answer.xml] == [elements] * 2

    async def test_the_plural_path_has_all_that_it_had_from_2010_to_2013(
        self, bridge: LegacyClient
    ) -> None:
        """schemas/README.md, "From 2010 to 2013"."""
        answer = await bridge.get("/invoices/13150403/messages")

        for item in answer.xml:
            elements = {element.tag for element in item}
            assert elements - TWELVE == {"sent-from-email", "sent-from", "send-reminder-on"}
            assert elements > TWELVE
        assert TWELVE - set(CLASSIC) == {
            "subject",
            "thank-you",
            "include-pay-pal-link",
            "updated-at",
        }

    async def test_final_quotes_every_name(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoices/1420/messages")

        assert (
            answer.texts("full-recipient-list")
            == ['"Jane Doe" <jane@doe.org>, "My Name" <my@email.com>'] * 2
        )

    async def test_order_is_v2s_newest_first(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoice/13150403/messages")

        assert answer.texts("id") == ["27835209", "27835207"]

    @pytest.mark.parametrize(
        ("path", "root", "schema"),
        [
            ("/invoice/1421/messages", "invoice-messages", "invoice-messages/classic-list"),
            ("/invoices/1421/messages", "invoice-message", "invoice-messages/final-list"),
        ],
    )
    async def test_no_messages_are_an_empty_root(
        self, bridge: LegacyClient, path: str, root: str, schema: str
    ) -> None:
        answer = await bridge.get(path)

        assert_valid(answer.body, schema)
        assert (answer.xml.tag, dict(answer.xml.items()), len(answer.xml)) == (
            root,
            {"type": "array"},
            0,
        )

    @pytest.mark.parametrize(
        ("path", "schema"),
        [
            ("/invoice/4500/messages", "invoice-messages/classic-list"),
            ("/invoices/4500/messages", "invoice-messages/final-list"),
        ],
    )
    async def test_every_page_is_in_one_list(
        self, bridge: LegacyClient, path: str, schema: str
    ) -> None:
        answer = await bridge.get(path)

        assert_valid(answer.body, schema)
        assert len(set(answer.texts("id"))) == len(answer.xml) == 4500

    async def test_unknown_invoice_is_404(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoice/999/messages")

        assert answer.status == 404
        assert answer.errors

    @pytest.mark.parametrize(
        ("since", "passed_on"),
        [
            ("2010-09-25 18:30", "2010-09-25T18:30:00Z"),
            ("2010-09-25 8:05", "2010-09-25T08:05:00Z"),
            ("2010-09-25", "2010-09-25T00:00:00Z"),
            ("2010-09-25 18:30:15", "2010-09-25T18:30:15Z"),
            ("2010-09-25T18:30:00Z", "2010-09-25T18:30:00Z"),
            ("2010-09-25T18:30:00+02:00", "2010-09-25T16:30:00Z"),
            ("2010-09-25T18.5", "2010-09-25T18:30:00Z"),
            ("2010-09-25 18:30:00 UTC", "2010-09-25T18:30:00Z"),
        ],
    )
    @pytest.mark.parametrize("encode", [quote, lambda text: text.replace(" ", "+")])
    async def test_updated_since_is_passed_on_as_iso_8601(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        since: str,
        passed_on: str,
        encode: Any,
    ) -> None:
        upstream.says(page())

        await scripted_bridge.get(f"/invoice/1420/messages?updated_since={encode(since)}")

        assert parse_qs(upstream.received[0].query)["updated_since"] == [passed_on]

    async def test_updated_since_leaves_out_what_is_older(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoice/1420/messages?updated_since=2008-04-09+20:46")

        assert answer.texts("id") == ["403"]

    async def test_updated_since_that_is_no_time_is_400(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(page())

        answer = await scripted_bridge.get("/invoice/1420/messages?updated_since=yesterday")

        assert answer.status == 400
        assert "updated_since" in answer.headers["Hint"]
        assert "updated_since" in answer.errors[0]
        assert not upstream.received


class TestShow:
    async def test_classic_is_as_published(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoice/1420/messages/403")

        assert answer.status == 200
        assert (
            answer.body.decode()
            == """\
<?xml version="1.0" encoding="UTF-8"?>
<invoice-message>
  <body>Anther message body goes here</body>
  <created-at type="datetime">2008-04-09T20:46:34Z</created-at>
  <id type="integer">403</id>
  <invoice-id type="integer">1420</invoice-id>
  <send-me-a-copy type="boolean">true</send-me-a-copy>
  <sent-by>My Name</sent-by>
  <sent-by-email>my@email.com</sent-by-email>
  <full-recipient-list>Jane Doe &lt;jane@doe.org&gt;, My Name &lt;my@email.com&gt;</full-recipient-list>
</invoice-message>
"""
        )

    @pytest.mark.parametrize(
        ("path", "schema"),
        [
            ("/invoice/1420/messages/409", "invoice-messages/classic-item"),
            ("/invoices/1420/messages/409", "invoice-messages/final-item"),
            ("/invoices/1420/message/409", "invoice-messages/final-item"),
        ],
    )
    async def test_each_spelling_of_the_path_has_its_dialect(
        self, bridge: LegacyClient, path: str, schema: str
    ) -> None:
        answer = await bridge.get(path)

        assert_valid(answer.body, schema)
        assert answer.texts("id") == ["409"]

    async def test_the_last_page_is_searched_too(self, bridge: LegacyClient) -> None:
        oldest = (await bridge.get("/invoice/4500/messages")).texts("id")[-1]

        answer = await bridge.get(f"/invoice/4500/messages/{oldest}")

        assert answer.texts("id") == [oldest]

    async def test_the_search_stops_at_the_page_that_has_it(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        link = f"{upstream.base_url}/invoices/1/messages?cursor=2"
        upstream.says(page(message(id=1), message(id=2), following=link))

        answer = await scripted_bridge.get("/invoice/1/messages/2")

        assert answer.texts("id") == ["2"]
        assert len(upstream.received) == 1

    async def test_an_id_that_is_nowhere_is_404(self, bridge: LegacyClient) -> None:
        answer = await bridge.get("/invoice/4500/messages/1")

        assert answer.status == 404
        assert answer.errors == ["Invoice 4500 has no message 1."]

    async def test_a_message_of_another_invoice_is_404(self, bridge: LegacyClient) -> None:
        assert (await bridge.get("/invoice/1421/messages/409")).status == 404


class TestDelete:
    async def test_answers_200_without_a_body_and_the_message_is_gone(
        self, bridge: LegacyClient
    ) -> None:
        answer = await bridge.call("DELETE", "/invoice/1420/messages/409")

        assert (answer.status, answer.body) == (200, b"")
        assert (await bridge.get("/invoice/1420/messages")).texts("id") == ["403"]
        assert (await bridge.get("/invoice/1420/messages/409")).status == 404

    async def test_a_second_time_is_404(self, bridge: LegacyClient) -> None:
        await bridge.call("DELETE", "/invoices/1420/message/409")

        assert (await bridge.call("DELETE", "/invoices/1420/message/409")).status == 404


class TestFields:
    async def test_nulls_are_empty_elements_with_nil_and_their_type(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(page({"id": 5}))

        answer = await scripted_bridge.get("/invoices/7/messages")

        assert_valid(answer.body, "invoice-messages/final-list")
        assert {element.tag: dict(element.items()) for element in answer.xml[0]} == {
            "id": {"type": "integer"},
            "invoice-id": {"type": "integer"},
            "send-me-a-copy": {"type": "boolean"},
            "body": {"nil": "true"},
            "created-at": {"type": "dateTime", "nil": "true"},
            "sent-by": {"nil": "true"},
            "sent-by-email": {"nil": "true"},
            "thank-you": {"type": "boolean"},
            "subject": {"nil": "true"},
            "include-pay-pal-link": {"type": "boolean"},
            "updated-at": {"type": "dateTime", "nil": "true"},
            "sent-from-email": {"nil": "true"},
            "sent-from": {"nil": "true"},
            "send-reminder-on": {"type": "date", "nil": "true"},
            "full-recipient-list": {"nil": "true"},
        }
        assert all(not element.text for element in answer.xml[0] if element.get("nil"))

    @pytest.mark.parametrize(
        ("path", "schema", "elements"),
        [
            ("/invoice/7/messages", "classic", ["send-me-a-copy"]),
            (
                "/invoices/7/messages",
                "final",
                ["send-me-a-copy", "thank-you", "include-pay-pal-link"],
            ),
        ],
    )
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            dict.fromkeys(("send_me_a_copy", "thank_you", "include_link_to_client_invoice")),
        ],
        ids=["missing", "null"],
    )
    async def test_a_boolean_without_a_value_is_false(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        path: str,
        schema: str,
        elements: list[str],
        fields: dict[str, Any],
    ) -> None:
        upstream.says(page({"id": 5, **fields}, message(id=4, send_me_a_copy=True)))

        answer = await scripted_bridge.get(path)

        assert_valid(answer.body, f"invoice-messages/{schema}-list")
        assert {each: answer.texts(each)[0] for each in elements} == dict.fromkeys(
            elements, "false"
        )
        assert answer.texts("send-me-a-copy") == ["false", "true"]

    @pytest.mark.parametrize(
        ("fields", "element", "text"),
        [
            pytest.param({"id": 2**63 - 1}, "id", "9223372036854775807", id="64-bit id"),
            pytest.param({"body": "a\r\nb\rc\nd"}, "body", "a\r\nb\rc\nd", id="CR survives"),
            pytest.param({"body": "  a "}, "body", "  a ", id="blanks survive"),
            pytest.param({"body": ""}, "body", "", id="empty is not null"),
            pytest.param({"body": "]]>&<'\""}, "body", "]]>&<'\"", id="markup survives"),
            pytest.param({"body": "€ 🧾 \u0085\u2028"}, "body", "€ 🧾 \u0085\u2028", id="Unicode"),
            pytest.param(
                {"created_at": "2017-08-24T00:15:06.987+02:00"},
                "created-at",
                "2017-08-23T22:15:06Z",
                id="offset and fraction become UTC and whole seconds",
            ),
            pytest.param(
                {"created_at": "2017-08-23T22:15:06"},
                "created-at",
                "2017-08-23T22:15:06Z",
                id="no offset is UTC",
            ),
            pytest.param(
                {"send_reminder_on": "2017-09-01"}, "send-reminder-on", "2017-09-01", id="date"
            ),
            pytest.param({"thank_you": True}, "thank-you", "true", id="boolean"),
            pytest.param(
                {"include_link_to_client_invoice": True},
                "include-pay-pal-link",
                "true",
                id="renamed field",
            ),
            pytest.param({"recipients": []}, "full-recipient-list", "", id="no recipients"),
            pytest.param(
                {"recipients": [{"name": None, "email": "a@b.org"}, {"email": "c@d.org"}]},
                "full-recipient-list",
                "a@b.org, c@d.org",
                id="recipients without a name",
            ),
            pytest.param(
                {"recipients": [{"name": "Doe, Jane", "email": "jane@doe.org"}]},
                "full-recipient-list",
                '"Doe, Jane" <jane@doe.org>',
                id="quoted name",
            ),
            pytest.param(
                {"recipients": [{"name": "J", "email": "j..d@docomo.ne.jp"}]},
                "full-recipient-list",
                '"J" <j..d@docomo.ne.jp>',
                id="unusual address",
            ),
            pytest.param(
                {"recipients": [{"email": "jane"}, {"email": "a@b.org"}, {"email": "a@b, c@d"}]},
                "full-recipient-list",
                "a@b.org",
                id="what is no address",
            ),
            pytest.param(
                {"colour": {"of": ["money"]}}, "sent-by", "Bob Powell", id="unknown field"
            ),
        ],
    )
    async def test_values_are_told_faithfully(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        fields: dict[str, Any],
        element: str,
        text: str,
    ) -> None:
        upstream.says(page(message(**fields)))

        answer = await scripted_bridge.get("/invoices/7/messages")

        assert answer.status == 200
        assert_valid(answer.body, "invoice-messages/final-list")
        assert answer.texts(element) == [text]
        assert answer.xml.find(f"*/{element}[@nil]") is None

    @pytest.mark.parametrize(
        "character",
        ["\x00", "\x0b", "\x1f", "\ufffe", "\uffff", "\ud800", "\udc00\ud800"],
        ids=ascii,
    )
    async def test_characters_that_xml_cannot_hold_become_replacement_characters(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, character: str
    ) -> None:
        upstream.says(page(message(body=f"a{character}b", subject="\ud83d\ude00")))

        answer = await scripted_bridge.get("/invoices/7/messages")

        assert_valid(answer.body, "invoice-messages/final-list")
        assert answer.texts("body") == [f"a{'�' * len(character)}b"]
        assert answer.texts("subject") == ["😀"]
