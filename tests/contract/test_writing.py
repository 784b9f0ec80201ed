"""Send, change the state and the template, as a legacy client sees them (schemas/README.md)."""

import json
from typing import Any

import pytest

from tests.support.legacy import LegacyClient, assert_valid
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, message, running_raw_upstream

XML = {"Content-Type": "application/xml"}
SEND = "/invoice/1420/messages"
CREATED = Reply(json.dumps(message(id=27835324)).encode(), 201)
EVENTS = {
    "mark_as_sent": "send",
    "mark_as_closed": "close",
    "re_open": "re-open",
    "mark_as_draft": "draft",
}


def xml(*elements: str) -> str:
    return f"<invoice-message>{''.join(elements)}</invoice-message>"


async def post(client: LegacyClient, path: str, body: str | bytes = b"") -> Any:
    return await client.call("POST", path, body=body, headers=XML)


class TestSend:
    @pytest.mark.parametrize(
        ("path", "schema"),
        [
            ("/invoice/1420/messages", "invoice-messages/classic-item"),
            ("/invoices/1420/messages", "invoice-messages/final-item"),
        ],
    )
    async def test_answers_201_with_location_and_the_message_and_the_list_shows_it(
        self, bridge: LegacyClient, path: str, schema: str
    ) -> None:
        answer = await post(
            bridge,
            path,
            xml(
                "<body>Thanks &amp; bye</body>",
                "<full-recipient-list>Jane Doe &lt;jane@doe.org&gt;</full-recipient-list>",
            ),
        )

        assert answer.status == 201
        assert answer.headers["Location"] == f"{path}/27835324"
        assert_valid(answer.body, schema)
        assert answer.texts("body") == ["Thanks & bye"]
        listed = await bridge.get(path)
        assert listed.texts("id")[0] == "27835324"
        assert (await bridge.get(answer.headers["Location"])).body == answer.body

    async def test_send_me_a_copy_adds_the_sender(self, bridge: LegacyClient) -> None:
        answer = await post(
            bridge, SEND, xml("<body>a</body>", "<send-me-a-copy>true</send-me-a-copy>")
        )

        assert answer.texts("full-recipient-list") == ["Bob Powell <bobpowell@example.com>"]

    async def test_without_any_recipient_is_400_with_v2s_reason(self, bridge: LegacyClient) -> None:
        answer = await post(bridge, SEND, xml("<body>a</body>"))

        assert answer.status == 400
        assert "recipient" in answer.headers["Hint"]
        assert (await bridge.get(SEND)).texts("id") == ["403", "409"]

    async def test_a_message_that_was_read_can_be_posted_back(self, bridge: LegacyClient) -> None:
        for path in ("/invoice/13150403/messages", "/invoices/13150403/messages"):
            read = await bridge.get(f"{path}/27835207")
            body = read.xml.find("body")
            assert body is not None
            assert body.text
            changed = read.body.replace(b"Invoice Summary", b"Second Summary")

            answer = await post(bridge, path, changed)

            assert answer.status == 201
            assert answer.texts("body") == [body.text.replace("Invoice", "Second", 1)]
            for element in ("full-recipient-list", "send-me-a-copy", "subject", "thank-you"):
                if path.startswith("/invoices/") or element != "subject":
                    assert answer.texts(element) == read.texts(element)

    async def test_the_location_leaves_out_what_was_tolerated(self, bridge: LegacyClient) -> None:
        answer = await post(
            bridge, "/invoice/%231420/messages.xml/", xml("<recipients>a@b.org</recipients>")
        )

        assert answer.headers["Location"] == "/invoice/1420/messages/27835324"


class TestParameters:
    """What v2 is asked for, element by element."""

    @pytest.mark.parametrize(
        ("elements", "parameters"),
        [
            pytest.param("<body>a</body>", {"body": "a"}, id="body"),
            pytest.param("<subject>a</subject>", {"subject": "a"}, id="subject"),
            pytest.param("<attach-pdf>true</attach-pdf>", {"attach_pdf": True}, id="attach-pdf"),
            pytest.param("<thank-you>false</thank-you>", {"thank_you": False}, id="thank-you"),
            pytest.param("<send-me-a-copy>1</send-me-a-copy>", {"send_me_a_copy": True}, id="1"),
            pytest.param("<send_me_a_copy>0</send_me_a_copy>", {"send_me_a_copy": False}, id="0"),
            pytest.param("<attach_pdf> T </attach_pdf>", {"attach_pdf": True}, id="T and blanks"),
            pytest.param("<attach_pdf>FALSE</attach_pdf>", {"attach_pdf": False}, id="FALSE"),
            pytest.param(
                '<attach-pdf type="boolean">f</attach-pdf>', {"attach_pdf": False}, id="typed"
            ),
            pytest.param("", {}, id="absent"),
            pytest.param("<body/>", {"body": None}, id="empty is null"),
            pytest.param('<body nil="true"/>', {"body": None}, id="nil is null"),
            pytest.param('<body nil="true">x</body>', {"body": None}, id="nil beats its text"),
            pytest.param('<body nil="false">x</body>', {"body": "x"}, id="nil that is false"),
            pytest.param("<thank-you/>", {"thank_you": None}, id="null boolean"),
            pytest.param("<body>  a\n </body>", {"body": "  a\n "}, id="blanks are kept"),
            pytest.param("<body>a&#13;\nb</body>", {"body": "a\r\nb"}, id="CR is kept"),
            pytest.param("<body>a\r\nb</body>", {"body": "a\nb"}, id="CR LF is XML's line end"),
            pytest.param("<body><![CDATA[<b>&]]></body>", {"body": "<b>&"}, id="CDATA"),
            pytest.param("<body>a<!-- x -->b<?p?>c</body>", {"body": "abc"}, id="comment, PI"),
            pytest.param(
                "<recipients>Jane &lt;jane@doe.org&gt;, bob@doe.org</recipients>",
                {
                    "recipients": [
                        {"name": "Jane", "email": "jane@doe.org"},
                        {"email": "bob@doe.org"},
                    ]
                },
                id="recipients",
            ),
            pytest.param(
                "<recipients>jane@doe.org, Bob &lt;bob@doe.org&gt;</recipients>"
                "<full-recipient-list>Jane &lt;jane@DOE.org&gt;, x@y.org</full-recipient-list>",
                {
                    "recipients": [
                        {"email": "jane@doe.org"},
                        {"name": "Bob", "email": "bob@doe.org"},
                        {"email": "x@y.org"},
                    ]
                },
                id="both lists are joined",
            ),
            pytest.param("<recipients/>", {"recipients": []}, id="no recipients"),
            pytest.param("<recipients>a@b.org<x/></recipients>", None, id="element in a string"),
            pytest.param("<include-pay-pal-link>false</include-pay-pal-link>", {}, id="PayPal"),
            pytest.param("<include_pay_pal_link>true</include_pay_pal_link>", {}, id="PayPal _"),
            pytest.param("<colour>blue</colour><id>5</id>", {}, id="foreign elements"),
            pytest.param("<event_type>close</event_type>", {}, id="no event by the back door"),
            pytest.param("<reminder>true</reminder>", {}, id="no v1 element"),
        ],
    )
    async def test_what_v2_is_sent(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        elements: str,
        parameters: dict[str, Any] | None,
    ) -> None:
        upstream.says(CREATED)

        answer = await post(scripted_bridge, SEND, xml(elements))

        if parameters is None:
            assert (answer.status, upstream.received) == (400, [])
        else:
            assert answer.status == 201
            (call,) = upstream.received
            assert (call.method, call.path) == ("POST", "/v2/invoices/1420/messages")
            assert call.headers["Content-Type"] == "application/json"
            assert json.loads(call.body) == parameters

    @pytest.mark.parametrize(
        ("body", "hint"),
        [
            pytest.param("", "The body is empty", id="empty"),
            pytest.param("  \r\n", "The body is empty", id="blank"),
            pytest.param("{}", "not well-formed XML: Start tag expected", id="JSON"),
            pytest.param("<invoice-message>", "not well-formed", id="unclosed"),
            pytest.param(xml("<body>Smith & Sons</body>"), "not well-formed", id="bare ampersand"),
            pytest.param("<invoice/>", "root element must be invoice-message", id="wrong root"),
            pytest.param(xml("<body>a</body>" * 2), "body is given twice", id="twice"),
            pytest.param(
                xml("<attach-pdf>1</attach-pdf><attach_pdf>1</attach_pdf>"),
                "attach-pdf is given twice",
                id="twice, spelled differently",
            ),
            pytest.param(
                xml("<send-me-a-copy>yes</send-me-a-copy>"),
                "send-me-a-copy must be true or false",
                id="bad boolean",
            ),
            pytest.param(
                xml("<include-pay-pal-link>maybe</include-pay-pal-link>"),
                "include-pay-pal-link must be true or false",
                id="bad boolean that would be dropped",
            ),
            pytest.param(xml("<recipients>jane@doe.org, Bob</recipients>"), "Bob", id="no address"),
            pytest.param(
                xml("<recipients>" + "a@b.org," * 251 + "</recipients>"), "250", id="too many"
            ),
        ],
    )
    async def test_what_cannot_be_understood_is_400_with_a_hint_and_nothing_is_sent(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, body: str, hint: str
    ) -> None:
        upstream.says(CREATED)

        answer = await post(scripted_bridge, SEND, body)

        assert answer.status == 400
        assert hint in answer.headers["Hint"]
        assert hint in answer.errors[0]
        assert not upstream.received

    @pytest.mark.parametrize(
        ("content_type", "status"),
        [
            (None, 201),
            ("", 201),
            ("text/xml", 201),
            ("application/xml", 201),
            ("APPLICATION/XML;charset=UTF-8", 201),
            ('text/xml; charset="utf-8"', 201),
            ("application/vnd.harvest+xml", 201),
            ("application/json", 415),
            ("application/x-www-form-urlencoded", 415),
            ("text/plain", 415),
            ("application/xml; charset=klingon", 415),
            ("application/xml; charset=idna", 415),
            ("nonsense", 415),
        ],
    )
    async def test_content_types(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        content_type: str | None,
        status: int,
    ) -> None:
        upstream.says(CREATED)

        answer = await scripted_bridge.call(
            "POST",
            SEND,
            body=xml("<body>a</body>").encode(),
            headers={} if content_type is None else {"Content-Type": content_type},
        )

        assert answer.status == status
        assert len(upstream.received) == (status == 201)
        assert status == 201 or answer.errors

    async def test_a_body_over_the_limit_is_413(self, upstream: ScriptedUpstream) -> None:
        upstream.says(CREATED)
        async with running_bridge(upstream.base_url, body_limit=100) as client:
            for body in (b"a" * 101, _chunks(b"a" * 51, 2)):
                answer = await client.call("POST", SEND, body=body, headers=XML)

                assert answer.status == 413
                assert answer.errors
            at_the_limit = xml("<body>a</body>").ljust(100)
            assert (await post(client, SEND, at_the_limit)).status == 201

    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
    async def test_a_long_text_is_taken_where_the_limit_is_raised(
        self, upstream: ScriptedUpstream
    ) -> None:
        upstream.says(CREATED)
        text = "x" * 11_000_000
        async with running_bridge(upstream.base_url, body_limit=12_000_000) as client:
            answer = await post(client, SEND, xml(f"<body>{text}</body>"))

        assert answer.status == 201
        assert json.loads(upstream.received[0].body) == {"body": text}


async def _chunks(chunk: bytes, count: int) -> Any:
    for _ in range(count):
        yield chunk


class TestState:
    """`mark_as_sent`, `mark_as_closed`, `re_open` and `mark_as_draft`."""

    @pytest.mark.parametrize("segment", EVENTS)
    @pytest.mark.parametrize("root", ["invoice", "invoices"])
    async def test_is_200_with_location_and_the_message(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, segment: str, root: str
    ) -> None:
        upstream.says(CREATED)

        answer = await post(scripted_bridge, f"/{root}/1420/messages/{segment}")

        assert answer.status == 200
        assert answer.headers["Location"] == f"/{root}/1420/messages/27835324"
        assert_valid(
            answer.body,
            f"invoice-messages/{'classic' if root == 'invoice' else 'final'}-item",
        )
        assert json.loads(upstream.received[0].body) == {"event_type": EVENTS[segment]}

    async def test_each_change_is_followed_by_the_list_that_shows_it(
        self, bridge: LegacyClient
    ) -> None:
        made: list[str] = []
        for segment in ("mark_as_sent", "mark_as_closed", "re_open", "mark_as_draft"):
            answer = await post(bridge, f"/invoice/1421/messages/{segment}")
            assert answer.status == 200
            made.insert(0, answer.texts("id")[0])

            assert (await bridge.get("/invoice/1421/messages")).texts("id") == made

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/invoice/1421/messages/mark_as_closed", "draft"),
            ("/invoice/1421/messages/re_open", "draft"),
            ("/invoice/1421/messages/mark_as_draft", "draft"),
            ("/invoice/1420/messages/mark_as_sent", "open"),
            ("/invoices/1420/messages/re_open", "open"),
        ],
    )
    async def test_a_change_that_makes_no_sense_is_400_with_the_reason(
        self, bridge: LegacyClient, path: str, reason: str
    ) -> None:
        answer = await post(bridge, path)

        assert answer.status == 400
        assert reason in answer.headers["Hint"]
        assert answer.errors == [answer.headers["Hint"]]

    @pytest.mark.parametrize("segment", ["mark_as_sent", "mark_as_closed", "mark_as_draft"])
    async def test_an_optional_body_is_passed_on_and_nothing_else(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, segment: str
    ) -> None:
        upstream.says(CREATED)

        await post(
            scripted_bridge,
            f"{SEND}/{segment}",
            xml("<body>Paid in kind</body>", "<recipients>a@b.org</recipients>"),
        )

        assert json.loads(upstream.received[0].body) == {
            "event_type": EVENTS[segment],
            "body": "Paid in kind",
        }

    async def test_re_open_drops_whatever_body_it_gets(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)

        for body in (xml("<body>a</body>"), "not XML"):
            answer = await scripted_bridge.call("POST", f"{SEND}/re_open", body=body.encode())

            assert answer.status == 200
            assert json.loads(upstream.received[-1].body) == {"event_type": "re-open"}

    async def test_an_empty_form_is_an_empty_body(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)

        answer = await scripted_bridge.call(
            "POST",
            f"{SEND}/mark_as_sent",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

        assert answer.status == 200

    async def test_a_broken_body_is_400_and_changes_nothing(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says(CREATED)

        answer = await post(scripted_bridge, f"{SEND}/mark_as_closed", "<invoice-message>")

        assert answer.status == 400
        assert not upstream.received

    @pytest.mark.parametrize("segment", EVENTS)
    async def test_another_method_is_405(self, bridge: LegacyClient, segment: str) -> None:
        answer = await bridge.get(f"{SEND}/{segment}")

        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


class TestTemplate:
    @pytest.mark.parametrize("root", ["invoice", "invoices"])
    async def test_has_the_subject_and_body_to_be(self, bridge: LegacyClient, root: str) -> None:
        answer = await bridge.get(f"/{root}/13150403/messages/new")

        assert answer.status == 200
        assert_valid(answer.body, "invoice-message-templates/final-item")
        assert [element.tag for element in answer.xml] == [
            "invoice-id",
            "subject",
            "body",
            "reminder",
            "thank-you",
        ]
        assert answer.texts("invoice-id") == ["13150403"]

    async def test_three_variants_differ(self, bridge: LegacyClient) -> None:
        path = "/invoice/13150403/messages/new"

        bodies = {
            (await bridge.get(f"{path}{query}")).texts("body")[0]
            for query in ("", "?reminder=true", "?thank_you=true")
        }

        assert len(bodies) == 3

    @pytest.mark.parametrize(
        ("query", "asked"),
        [
            ("", ""),
            ("?reminder=true", "reminder=true"),
            ("?thank_you=1&reminder=F", "reminder=false&thank_you=true"),
            ("?colour=blue&access_token=x", ""),
        ],
    )
    async def test_flags_are_passed_on_when_given(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient, query: str, asked: str
    ) -> None:
        upstream.says({"invoice_id": 1420, "subject": "s", "body": "b"})

        await scripted_bridge.get(f"{SEND}/new{query}")

        assert upstream.received[0].path == "/v2/invoices/1420/messages/new"
        assert upstream.received[0].query == asked

    async def test_a_flag_that_is_no_boolean_is_400(self, bridge: LegacyClient) -> None:
        answer = await bridge.get(f"{SEND}/new?reminder=maybe")

        assert answer.status == 400
        assert answer.headers["Hint"] == "reminder must be true or false."

    async def test_an_unknown_invoice_is_404(self, bridge: LegacyClient) -> None:
        assert (await bridge.get("/invoice/5/messages/new")).status == 404

    async def test_nulls_are_nil_but_for_booleans(
        self, upstream: ScriptedUpstream, scripted_bridge: LegacyClient
    ) -> None:
        upstream.says({})

        answer = await scripted_bridge.get(f"{SEND}/new")

        assert_valid(answer.body, "invoice-message-templates/classic-item")
        assert [element.get("nil") for element in answer.xml] == [None, "true", "true", None, None]
        assert [element.text for element in answer.xml][3:] == ["false", "false"]


class TestUnknownOutcome:
    """Nobody may be told that a mail was not sent when it may have been."""

    UNKNOWN = "Whether Harvest has done this is not known: look first."

    @pytest.mark.parametrize("path", [SEND, f"{SEND}/mark_as_sent"])
    @pytest.mark.parametrize(
        "reply",
        [
            pytest.param(Reply(b"", 502), id="502"),
            pytest.param(Reply(b"<html>", 201), id="created, in HTML"),
            pytest.param(
                Reply(json.dumps(message(created_at="0001-01-01T00:00:00+05:00")).encode(), 201),
                id="created, but not to be told in XML",
            ),
        ],
    )
    async def test_an_answer_that_settles_nothing_is_504_when_the_look_fails_too(
        self,
        upstream: ScriptedUpstream,
        scripted_bridge: LegacyClient,
        path: str,
        reply: Reply,
    ) -> None:
        upstream.says(reply)

        answer = await post(scripted_bridge, path, xml("<recipients>a@b.org</recipients>"))

        assert (answer.status, answer.errors) == (504, [self.UNKNOWN])
        assert [each.method for each in upstream.received].count("POST") == 1

    @pytest.mark.parametrize("hang", [False, True], ids=["closed", "too slow"])
    async def test_a_broken_connection_is_504(self, hang: bool) -> None:
        async with (
            running_raw_upstream(b"", hang=hang) as base_url,
            running_bridge(base_url, call_timeout=1) as client,
        ):
            answer = await post(client, SEND, xml("<recipients>a@b.org</recipients>"))

        assert (answer.status, answer.errors) == (504, [self.UNKNOWN])

    async def test_a_connection_that_was_never_made_is_502(self) -> None:
        async with running_bridge("http://127.0.0.1:1/v2") as client:
            answer = await post(client, SEND, xml("<recipients>a@b.org</recipients>"))

        assert (answer.status, answer.errors) == (502, ["Harvest could not be reached."])
