"""Both sides of calls as they are captured, over real sockets, with the sandbox as v2."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lxml import etree
from typer.testing import CliRunner

from bridge import tape
from bridge.cli import app
from bridge.record.log.capture import Mode
from bridge.record.log.exchange import Exchange, Message
from bridge.sandbox.app import create_sandbox
from tests.support import har
from tests.support.captured import all_rows, capturing, kept, put_rule
from tests.support.clocks import until
from tests.support.held_upstream import HeldUpstream
from tests.support.legacy import LegacyClient
from tests.support.logged import Logged
from tests.support.running import running_app
from tests.support.upstream import Reply, message, page, running_upstream

LIST, SEND = "/invoice/1420/messages", "/invoices/1420/messages"
XML = {"Content-Type": "text/xml"}
MAIL = (
    "<invoice-message><subject>Invoice for Jane</subject><body>Dear Jane Roe</body>"
    "<recipients>Jane Roe &lt;jane@roe.example&gt;</recipients></invoice-message>"
)
NOBODY = "0" * 12
"""An integration that does not call."""

SECRETS = ("sandbox-token", "YW55QGV4YW1wbGUuY29tOnNhbmRib3gtdG9rZW4", "any@example.com")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    async with running_app(create_sandbox()) as url:
        yield f"{url}/v2"


def only(database: Path) -> Exchange:
    (call,) = kept(database)
    return call.exchange


def header(said: Message | None, name: str) -> str | None:
    assert said is not None
    return next((text for each, text in said.headers if each.lower() == name.lower()), None)


def body(said: Message | None) -> bytes:
    assert said is not None
    return said.body


def ids_of(document: etree._Element) -> list[int]:
    return [int(each.text or "") for each in document.iter("id")]


def everything(database: Path) -> str:
    return repr([call.exchange for call in kept(database)])


async def test_a_read_is_kept_with_both_sides(sandbox: str, database: Path, log: Logged) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        answer = await client.get(LIST, headers={"User-Agent": "App/1 (jane@roe.example)"})

    call = only(database)
    assert (call.method, call.status, call.raw) == ("GET", 200, False)
    assert call.url == f"http://{client.host}{LIST}"
    assert call.http == "1.1"
    assert header(call.request, "User-Agent") == "App/1 (xxxx@xxx.xxxxxxx)"
    assert header(call.answer, "X-Request-Id") is not None
    before, after = etree.fromstring(answer.body), etree.fromstring(body(call.answer))
    assert [each.tag for each in after.iter()] == [each.tag for each in before.iter()]
    assert ids_of(after) == ids_of(before)
    (v2,) = call.upstream
    assert (v2.method, v2.status, v2.shared) == ("GET", 200, False)
    assert v2.url == f"{sandbox}/invoices/1420/messages?per_page=2000"
    assert header(v2.request, "Harvest-Account-Id") == "1000"
    assert [each["id"] for each in json.loads(body(v2.answer))["invoice_messages"]] == ids_of(after)
    assert 0 <= v2.started <= call.milliseconds
    assert not any(secret in everything(database) for secret in SECRETS)


async def test_the_same_text_has_the_same_stand_in_on_both_sides(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        await client.get(LIST)

    call = only(database)
    (v2,) = call.upstream
    v1_says = [str(each.text) for each in etree.fromstring(body(call.answer)).iter("body")]
    v2_says = [each["body"] for each in json.loads(body(v2.answer))["invoice_messages"]]
    assert v1_says == v2_says
    assert set("".join(v1_says)) <= set("xX9éÉ .,:;!?()#-'/\"\n\r$&")


async def test_a_write_is_kept_with_its_bodies(sandbox: str, database: Path, log: Logged) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        answer = await client.call("POST", SEND, body=MAIL, headers=XML)
    assert answer.status == 201

    call = only(database)
    assert body(call.request).decode() == (
        "<invoice-message><subject>Xxxxxxx xxx Xxxx</subject><body>Xxxx Xxxx Xxx</body>"
        "<recipients>Xxxx Xxx &lt;xxxx@xxx.xxxxxxx&gt;</recipients></invoice-message>"
    )
    (v2,) = call.upstream
    assert json.loads(body(v2.request)) == {
        "subject": "Xxxxxxx xxx Xxxx",
        "body": "Xxxx Xxxx Xxx",
        "recipients": [{"name": "Xxxx Xxx", "email": "xxxx@xxx.xxxxxxx"}],
    }
    assert header(call.answer, "Location") == answer.headers["Location"]
    assert b"jane" not in everything(database).lower().encode()


async def test_raw_keeps_texts_and_addresses_and_yet_no_secret(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log, raw=True) as (_, client):
        await client.call("POST", SEND, body=MAIL, headers=XML)
        await client.get(f"{LIST}?access_token=sandbox-token", authorization=None)

    write, read = kept(database)
    assert body(write.exchange.request).decode() == MAIL
    assert read.exchange.url.endswith("?access_token=REMOVED")
    assert write.exchange.raw
    assert log.lines("capture_on")[0]["raw"] is True
    assert not any(secret in everything(database) for secret in SECRETS)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/invoice/7777777/messages", 404), ("GET", "/people", 501), ("PUT", LIST, 405)],
)
async def test_a_call_that_is_not_served_is_kept(
    sandbox: str, database: Path, log: Logged, method: str, path: str, status: int
) -> None:
    async with capturing(sandbox, database, log, Mode.ERRORS) as (_, client):
        await client.call(method, path)

    call = only(database)
    assert call.status == status
    assert call.url.endswith(path)
    assert etree.fromstring(body(call.answer)).tag == "errors"


async def test_a_path_of_the_clients_own_making_is_replaced(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        await client.get("/people/jane@roe.example?name=Jane", headers={"Host": "jane"})

    assert only(database).url == "http://jane/people/{…}?name=Xxxx"


async def test_a_refused_call_is_kept_without_its_password(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log, Mode.ERRORS, raw=True) as (_, client):
        await client.get(LIST, authorization="Basic YTpi")
        await client.get(LIST, authorization=None)

    for call in kept(database):
        assert call.exchange.status == 401
        assert header(call.exchange.request, "Authorization") in {"REMOVED", None}


async def test_a_head_has_no_body(sandbox: str, database: Path, log: Logged) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        await client.call("HEAD", LIST)

    call = only(database)
    assert call.answer is not None
    assert (call.method, call.status, call.answer.size) == ("HEAD", 200, 0)


async def test_of_errors_served_calls_are_no_part(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log, Mode.ERRORS) as (_, client):
        await client.get(LIST)
        await client.get("/invoice/7777777/messages")

    assert len(all_rows(database)) == 2
    assert [call.row.status for call in kept(database)] == [404]


async def test_with_no_rule_nothing_is_kept(sandbox: str, database: Path, log: Logged) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        put_rule(database, Mode.OFF)
        await until(lambda: log.lines("capture_ended"))
        await client.get(LIST)

    assert len(all_rows(database)) == 1
    assert kept(database) == []


async def test_a_rule_of_one_integration_leaves_out_the_others(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log, Mode.ERRORS) as (_, client):
        await client.get(LIST, headers={"User-Agent": "One/1"})
        await until(lambda: log.lines("legacy_call"))
        one = log.lines("legacy_call")[0]["integration"]
        told = len(log.lines("capture_on"))
        put_rule(database, Mode.ALL, integration=one)
        await until(lambda: len(log.lines("capture_on")) > told)
        await client.get(LIST, headers={"User-Agent": "Two/1"})
        await client.get(LIST, headers={"User-Agent": "One/1"})

    (call,) = kept(database)
    assert call.row.integration == one


async def test_a_rule_outlives_a_restart(sandbox: str, database: Path, log: Logged) -> None:
    async with capturing(sandbox, database, log):
        pass
    async with capturing(sandbox, database, log, integration=NOBODY) as (_, client):
        await client.get(LIST)

    assert len(kept(database)) == 1


async def test_a_rule_ends_by_itself(sandbox: str, database: Path, log: Logged) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        put_rule(database, Mode.ALL, span=1)
        await until(lambda: log.lines("capture_ended"))
        await client.get(LIST)

    assert len(all_rows(database)) == 1
    assert kept(database) == []


async def test_a_rule_ends_while_no_bridge_runs(sandbox: str, database: Path, log: Logged) -> None:
    async with capturing(sandbox, database, log):
        pass
    put_rule(database, Mode.ALL, span=1)
    async with capturing(sandbox, database, log, integration=NOBODY) as (_, client):
        await client.get(LIST)

    assert len(all_rows(database)) == 1
    assert kept(database) == []


async def test_readiness_warns_while_something_is_captured(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with (
        capturing(sandbox, database, log, raw=True) as (service, client),
        LegacyClient(client.host, service.admin_port) as admin,
    ):
        answer = await admin.get("/readyz", authorization=None)

    warning = answer.json["warnings"]["capture"]
    assert warning.startswith("all calls of all integrations until 20")
    assert warning.endswith("raw: with addresses, names and texts")


async def test_who_shares_an_answer_is_told_so(
    held: HeldUpstream, database: Path, log: Logged
) -> None:
    async with capturing(held.base_url, database, log) as (_, client):
        first = asyncio.create_task(client.get(LIST, headers={"X-Request-Id": "first"}))
        call = await held.next()
        second = asyncio.create_task(client.get(LIST, headers={"X-Request-Id": "second"}))
        other = asyncio.create_task(client.get(SEND, headers={"X-Request-Id": "other"}))
        await until(lambda: len(client._session.connector._acquired) == 3)  # type: ignore[union-attr]
        await client.get("/nowhere")  # whose answer comes after the bridge has read those before it
        call.answer(page(message()))
        await asyncio.gather(first, second, other)

    calls = {each.row.request_id: each.exchange for each in kept(database)}
    assert calls["second"].shared_with == "first"
    assert calls["second"].upstream == []
    assert body(calls["second"].answer) == body(calls["first"].answer)
    assert [each.shared for each in calls["first"].upstream] == [False]
    assert [each.shared for each in calls["other"].upstream] == [True]
    assert body(calls["other"].upstream[0].answer) == body(calls["first"].upstream[0].answer)


async def test_a_call_without_an_answer_of_v2_tells_why(
    held: HeldUpstream, database: Path, log: Logged
) -> None:
    async with capturing(held.base_url, database, log, call_timeout=0.2) as (_, client):
        assert (await client.get(LIST)).status == 504

    (v2, *_) = only(database).upstream
    assert (v2.status, v2.error, v2.answer) == (None, "UpstreamTimeout", None)
    assert header(v2.request, "Authorization") == "REMOVED"


@pytest.mark.parametrize("raw", [False, True])
async def test_v2s_words_stand_in_the_log_as_capture_allows(
    database: Path, log: Logged, raw: bool
) -> None:
    async with running_upstream() as upstream:
        upstream.says(Reply(b'{"message": "Jane is wrong"}', 422))
        async with capturing(upstream.base_url, database, log, raw=raw) as (_, client):
            await client.call("POST", SEND, body=MAIL, headers=XML)
            put_rule(database, Mode.OFF)
            await until(lambda: log.lines("capture_ended"))
            await client.call("POST", SEND, body=MAIL, headers=XML)

    said = [line.get("v2_says") for line in log.lines("legacy_call")]
    assert said == ["Jane is wrong" if raw else "Xxxx xx xxxxx", None]


async def test_of_a_long_body_the_beginning_is_kept(
    database: Path, log: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = message(body="word " * 200_000)
    async with running_upstream() as upstream:
        upstream.says(page(long))
        async with capturing(upstream.base_url, database, log) as (_, client):
            answer = await client.get(LIST)

    call = only(database)
    (v2,) = call.upstream
    assert call.answer is not None
    assert v2.answer is not None
    for said, size in ((call.answer, len(answer.body)), (v2.answer, len(upstream_body(long)))):
        assert (said.size, said.left_out) == (size, "cut")
        assert tape.BODY_KEPT - 1000 < len(said.body) <= tape.BODY_KEPT


def upstream_body(*messages: dict[str, object]) -> bytes:
    return json.dumps(page(*messages)).encode()


async def test_an_answer_of_64_mib_takes_no_more_than_a_beginning(
    database: Path, log: Logged
) -> None:
    async with running_upstream() as upstream:
        upstream.says(b'{"invoice_messages": "' + b"a" * (64 * 1024 * 1024 - 30) + b'"}')
        async with capturing(upstream.base_url, database, log) as (_, client):
            assert (await client.get(LIST)).status == 502

    (v2, *_) = only(database).upstream
    assert v2.answer is not None
    assert v2.answer.size == 64 * 1024 * 1024 - 6
    assert tape.BODY_KEPT - 1000 < len(v2.answer.body) <= tape.BODY_KEPT


async def test_where_there_is_no_room_only_sizes_are_kept(
    database: Path, log: Logged, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape, "CALL_KEPT", 3 * tape.HEAD)
    async with capturing(sandbox, database, log) as (_, client):
        answer = await client.get(LIST)

    call = only(database)
    assert call.answer is not None
    assert (call.answer.body, call.answer.left_out) == (b"", "no room")
    assert call.answer.size == len(answer.body)


async def test_what_calls_have_held_is_given_back(
    sandbox: str, database: Path, log: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tape.Room()
    monkeypatch.setattr("bridge.server.endpoint.Room", lambda: room)
    async with capturing(sandbox, database, log) as (_, client):
        await client.get(LIST)
        await client.call("POST", SEND, body=MAIL, headers=XML)

    assert room.left == tape.ALL_KEPT


# The commands.


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


async def test_captured_calls_are_exported_as_har(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        await client.get(f"{LIST}?updated_since=2008-01-01")
        await client.call("POST", SEND, body=MAIL, headers=XML)
        await client.get("/people")

    document = json.loads(run("export", "--har", "--database", database))
    har.check(document)
    sides = [entry["_side"] for entry in document["log"]["entries"]]
    assert sorted(sides) == ["v1", "v1", "v1", "v2", "v2"]
    assert len(document["log"]["pages"]) == 3
    served = json.loads(run("export", "--har", "--outcome", "served", "--database", database))
    assert len(served["log"]["pages"]) == 2


async def test_a_rule_is_set_and_listed_on_the_command_line(
    sandbox: str, database: Path, log: Logged
) -> None:
    async with capturing(sandbox, database, log) as (_, client):
        await client.get(LIST)
    (call,) = kept(database)
    listed = ("capture", "--database", database)

    assert run(*listed, "--all", "off") == "Nothing is captured.\n"
    assert "all\terrors" in run(*listed, "--all", "errors", "--for", "30m")
    told = run(*listed, call.row.integration[:6], "all", "--raw")
    assert f"{call.row.integration}\tall" in told
    assert "addresses, names and texts" in told
    off = json.loads(run(*listed, call.row.integration, "off", "--json"))
    assert [(each["integration"], each["mode"]) for each in off] == [
        ("", "errors"),
        (call.row.integration, "off"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["errors"], "name whose calls"),
        (["--all"], "name whose calls"),
        (["--all", "some"], "none of errors, all and off"),
        (["--all", "all", "--for", "8d"], "at most 7 days"),
        (["--all", "all", "--for", "long"], "must be a span of time"),
        (["--raw"], "whose calls"),
        (["nobody", "all"], "no integration"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_one_line(
    sandbox: str, database: Path, log: Logged, arguments: list[str], said: str
) -> None:
    async with capturing(sandbox, database, log):
        pass

    result = CliRunner().invoke(app, ["capture", *arguments, "--database", str(database)])

    assert result.exit_code == 2
    assert said in result.output
    assert result.output.count("\n") == 1
