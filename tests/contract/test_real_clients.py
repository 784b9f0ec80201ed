"""Published clients, unmodified, against a running bridge: what it says is theirs to parse.

`harvest-api-client` is a client of v1 (OAuth2, reads XML). `pyactiveresource` is the Python port
of ActiveResource, the client that Rails brought for APIs such as v1 (Basic, XML both ways).
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harvest_api_client.harvest import (  # type: ignore[import-untyped]
    Harvest,
    HarvestConnectionError,
    HarvestItemBase,
    HarvestItemGetterable,
)
from lxml import etree
from pyactiveresource import connection, formats  # type: ignore[import-untyped]
from pyactiveresource.activeresource import ActiveResource  # type: ignore[import-untyped]

from bridge.sandbox.seeds import (
    CLASSIC_INVOICE_ID,
    DRAFT_INVOICE_ID,
    LONG_INVOICE_ID,
    LONG_LIST_LENGTH,
    PRINTED_INVOICE_ID,
    PRINTED_MESSAGES,
    SANDBOX_TOKEN,
)
from bridge.v1.dialects import Dialect
from tests.support.legacy import LegacyClient, assert_valid
from tests.support.running import running_bridge

ANTHER = "Anther message body goes here"
BOTH_PATHS = pytest.mark.parametrize("root", ["invoice", "invoices"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep urllib, which both clients call with, from a proxy that the environment names."""
    monkeypatch.setenv("no_proxy", "*")


def url_of(bridge: LegacyClient) -> str:
    return f"http://{bridge.host}:{bridge.port}"


class TestHarvestApiClient:
    @staticmethod
    def harvest(bridge: LegacyClient, directory: Path, token: str = SANDBOX_TOKEN) -> Any:
        """Return the client as its README sets it up, but for the address."""
        held = {"value": token, "last_refresh_time": datetime.now().isoformat()}  # noqa: DTZ005
        tokens = directory / "tokens.json"
        tokens.write_text(json.dumps({"access_token": held, "refresh_token": held}))
        harvest = Harvest("client id", "client secret", str(tokens))
        harvest.uri = url_of(bridge)
        return harvest

    async def read(
        self, bridge: LegacyClient, directory: Path, path: str, token: str = SANDBOX_TOKEN
    ) -> list[Any]:
        """Read messages by a resource class like those that the client brings itself."""

        class Message(HarvestItemBase, metaclass=HarvestItemGetterable):  # type: ignore[misc,metaclass]
            base_url = path
            element_name = "invoice-message"
            plural_name = "invoice_messages"

        harvest = self.harvest(bridge, directory, token)
        return await asyncio.to_thread(lambda: list(harvest.invoice_messages()))

    async def test_lists_messages_with_their_types(
        self, bridge: LegacyClient, tmp_path: Path
    ) -> None:
        newest, _ = await self.read(bridge, tmp_path, f"/invoice/{CLASSIC_INVOICE_ID}/messages")

        assert (newest.id, newest.invoice_id, newest.send_me_a_copy) == (403, 1420, True)
        assert newest.created_at == datetime(2008, 4, 9, 20, 46, 34, tzinfo=UTC)
        assert (newest.body, newest.sent_by) == (ANTHER, "My Name")
        assert newest.full_recipient_list == "Jane Doe <jane@doe.org>, My Name <my@email.com>"

    async def test_reads_text_as_v2_holds_it(self, bridge: LegacyClient, tmp_path: Path) -> None:
        messages = await self.read(bridge, tmp_path, f"/invoice/{PRINTED_INVOICE_ID}/messages")

        assert [each.body for each in messages] == [each.body for each in PRINTED_MESSAGES]

    @pytest.mark.parametrize(
        "path",
        ["/invoice/1420/messages/409", "/invoices/1420/messages/409", "/invoices/1420/message/409"],
    )
    async def test_reads_one_message_in_either_dialect(
        self, bridge: LegacyClient, tmp_path: Path, path: str
    ) -> None:
        (message,) = await self.read(bridge, tmp_path, path)

        assert (message.id, message.body) == (409, "The message body goes here")

    async def test_takes_the_final_root_for_a_message_unless_the_dialect_is_set(
        self, bridge: LegacyClient, sandbox: str, tmp_path: Path
    ) -> None:
        path = "/invoices/1420/messages"

        with pytest.raises(AttributeError, match="no attribute 'id'"):
            await self.read(bridge, tmp_path, path)
        async with running_bridge(sandbox, dialect=Dialect.CLASSIC) as classic:
            messages = await self.read(classic, tmp_path, path)

        assert [each.id for each in messages] == [403, 409]

    async def test_a_resource_that_is_not_translated_is_its_own_error(
        self, bridge: LegacyClient, tmp_path: Path
    ) -> None:
        harvest = self.harvest(bridge, tmp_path)

        with pytest.raises(HarvestConnectionError) as raised:
            await asyncio.to_thread(lambda: list(harvest.projects()))

        with raised.value.args[0] as answer:
            body = answer.read()
        assert answer.code == 501
        assert_valid(body, "errors")
        assert "/projects" in etree.fromstring(body).findtext("error", "")

    async def test_a_token_that_v2_refuses_is_its_own_error(
        self, bridge: LegacyClient, tmp_path: Path
    ) -> None:
        path = f"/invoice/{CLASSIC_INVOICE_ID}/messages"

        with pytest.raises(HarvestConnectionError) as raised:
            await self.read(bridge, tmp_path, path, token="wrong")

        with raised.value.args[0] as answer:
            assert answer.code == 401


class TestActiveResource:
    async def test_logs_in_by_asking_who_it_is(self, bridge: LegacyClient) -> None:
        class Account(ActiveResource):  # type: ignore[misc]
            _site = url_of(bridge)
            _user = "me@example.com"
            _password = SANDBOX_TOKEN
            _format = formats.XMLFormat
            _plural = "account"

        found = await asyncio.to_thread(Account.get, "who_am_i")
        limit = await asyncio.to_thread(Account.get, "rate_limit_status")

        assert found["company"]["base_uri"] == url_of(bridge)
        assert found["company"]["modules"]["invoices"] is True
        assert (found["user"]["id"], found["user"]["admin"]) == (1782884, True)
        assert found["user"]["timezone"] == "Mountain Time (US & Canada)"
        assert (limit["count"], limit["max_calls"]) == (2, 100)
        assert isinstance(limit["last_access_at"], datetime)

    @staticmethod
    def messages(bridge: LegacyClient, root: str = "invoices", token: str = SANDBOX_TOKEN) -> Any:
        """Return a class of messages such as a user of ActiveResource declares."""

        class Message(ActiveResource):  # type: ignore[misc]
            _site = f"{url_of(bridge)}/{root}/$invoice_id"
            _user = "me@example.com"
            _password = token
            _format = formats.XMLFormat
            _singular = "invoice_message"
            _plural = "messages"

        return Message

    @BOTH_PATHS
    async def test_lists_messages_with_their_types(self, bridge: LegacyClient, root: str) -> None:
        messages = self.messages(bridge, root)

        newest, _ = await asyncio.to_thread(messages.find, invoice_id=CLASSIC_INVOICE_ID)

        assert (newest.id, newest.invoice_id, newest.send_me_a_copy) == (403, 1420, True)
        assert newest.created_at == datetime(2008, 4, 9, 20, 46, 34, tzinfo=UTC)
        assert newest.body == ANTHER

    async def test_reads_nulls_and_the_names_of_the_final_dialect(
        self, bridge: LegacyClient
    ) -> None:
        message = await asyncio.to_thread(self.messages(bridge).find, 409, invoice_id=1420)

        assert (message.subject, message.send_reminder_on) == (None, None)
        assert (message.thank_you, message.include_pay_pal_link) == (False, False)
        assert message.full_recipient_list == '"Jane Doe" <jane@doe.org>, "My Name" <my@email.com>'

    async def test_lists_every_page(self, bridge: LegacyClient) -> None:
        messages = self.messages(bridge, "invoice")

        found = await asyncio.to_thread(messages.find, invoice_id=LONG_INVOICE_ID)

        assert len({each.id for each in found}) == len(found) == LONG_LIST_LENGTH

    @BOTH_PATHS
    async def test_an_empty_list_is_an_empty_list(self, bridge: LegacyClient, root: str) -> None:
        messages = self.messages(bridge, root)

        assert await asyncio.to_thread(messages.find, invoice_id=DRAFT_INVOICE_ID) == []

    async def test_lists_what_was_updated_since(self, bridge: LegacyClient) -> None:
        found = await asyncio.to_thread(
            self.messages(bridge).find, invoice_id=1420, updated_since="2008-04-09 20:46"
        )

        assert [each.id for each in found] == [403]

    @pytest.mark.parametrize(("message_id", "there"), [(409, True), (410, False)])
    async def test_asks_by_head_whether_a_message_exists(
        self, bridge: LegacyClient, message_id: int, there: bool
    ) -> None:
        messages = self.messages(bridge)

        assert await asyncio.to_thread(messages.exists, message_id, invoice_id=1420) is there

    @BOTH_PATHS
    async def test_sends_a_message_and_takes_its_id_from_the_answer(
        self, bridge: LegacyClient, root: str
    ) -> None:
        messages = self.messages(bridge, root)
        message = messages(
            {
                "body": "Grüße & <Küsse>,\n 山田 🎉",
                "recipients": "Jane Doe <jane@doe.org>, Zoë Müller <zoe@example.com>",
                "attach_pdf": True,
                "send_me_a_copy": False,
                "subject": None,
            },
            {"invoice_id": CLASSIC_INVOICE_ID},
        )

        assert await asyncio.to_thread(message.save)
        newest, *_ = await asyncio.to_thread(messages.find, invoice_id=CLASSIC_INVOICE_ID)

        assert message.id == newest.id == 27835324
        assert message.body == newest.body == "Grüße & <Küsse>,\n 山田 🎉"
        assert "Zoë Müller" in newest.full_recipient_list
        assert message.sent_by == "Bob Powell"

    @BOTH_PATHS
    async def test_sends_again_what_it_read(self, bridge: LegacyClient, root: str) -> None:
        messages = self.messages(bridge, root)
        read = await asyncio.to_thread(messages.find, 409, invoice_id=CLASSIC_INVOICE_ID)
        again = messages(
            {name: value for name, value in read.attributes.items() if name != "id"},
            {"invoice_id": CLASSIC_INVOICE_ID},
        )

        assert await asyncio.to_thread(again.save)

        assert again.id not in {None, read.id}
        assert again.body == read.body

    async def test_deletes_a_message(self, bridge: LegacyClient) -> None:
        messages = self.messages(bridge)
        message = await asyncio.to_thread(messages.find, 409, invoice_id=CLASSIC_INVOICE_ID)

        await asyncio.to_thread(message.destroy)

        with pytest.raises(connection.ResourceNotFound):
            await asyncio.to_thread(messages.find, 409, invoice_id=CLASSIC_INVOICE_ID)

    async def test_changes_the_state_with_and_without_a_message(self, bridge: LegacyClient) -> None:
        messages = self.messages(bridge)
        reason = messages({"body": "Written off"}).to_xml()

        for event, body in [
            ("mark_as_sent", b""),
            ("mark_as_closed", reason),
            ("re_open", b""),
            ("mark_as_draft", reason),
        ]:
            answer = await asyncio.to_thread(
                messages.post, event, body, invoice_id=DRAFT_INVOICE_ID
            )

            told = formats.XMLFormat.decode(answer.body)
            assert answer.code == 200
            assert answer["Location"] == f"/invoices/{DRAFT_INVOICE_ID}/messages/{told['id']}"
            assert told["body"] == ("Written off" if body else None)

    async def test_reads_the_template(self, bridge: LegacyClient) -> None:
        template = await asyncio.to_thread(
            self.messages(bridge).get, "new", reminder="true", invoice_id=PRINTED_INVOICE_ID
        )

        assert template["invoice_id"] == PRINTED_INVOICE_ID
        assert template["subject"] == "Past due invoice reminder: #1002 from API Examples"
        assert template["reminder"] is False

    async def test_reads_why_a_message_was_refused(self, bridge: LegacyClient) -> None:
        message = self.messages(bridge)({"body": "a"}, {"invoice_id": CLASSIC_INVOICE_ID})

        with pytest.raises(connection.BadRequest) as raised:
            await asyncio.to_thread(message.save)
        message.errors.from_xml(raised.value.response.body)

        assert "recipient" in raised.value.response["Hint"]
        assert message.errors.full_messages() == [raised.value.response["Hint"]]

    async def test_a_change_to_a_message_is_not_allowed(self, bridge: LegacyClient) -> None:
        messages = self.messages(bridge)
        message = await asyncio.to_thread(messages.find, 409, invoice_id=CLASSIC_INVOICE_ID)
        message.body = "Changed"

        with pytest.raises(connection.MethodNotAllowed) as raised:
            await asyncio.to_thread(message.save)

        assert raised.value.response["Allow"] == "DELETE, GET, HEAD"

    async def test_an_invoice_that_is_not_there_is_not_found(self, bridge: LegacyClient) -> None:
        with pytest.raises(connection.ResourceNotFound):
            await asyncio.to_thread(self.messages(bridge).find, invoice_id=999)

    async def test_a_password_that_is_no_token_is_unauthorized(self, bridge: LegacyClient) -> None:
        messages = self.messages(bridge, token="secret")

        with pytest.raises(connection.UnauthorizedAccess):
            await asyncio.to_thread(messages.find, invoice_id=CLASSIC_INVOICE_ID)

    async def test_a_resource_that_is_not_translated_is_a_server_error(
        self, bridge: LegacyClient
    ) -> None:
        items = self.messages(bridge)
        items.plural = "items"

        with pytest.raises(connection.ServerError) as raised:
            await asyncio.to_thread(items.find, invoice_id=CLASSIC_INVOICE_ID)

        raised.value.__context__.close()  # The client leaves that to the garbage collector.
        assert raised.value.code == 501
