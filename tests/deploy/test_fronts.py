"""The TLS fronts of `deploy/`, each before two bridges: what old clients send, and what v2 gets."""

import asyncio
import base64
import re
import shutil
import signal
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.support.clocks import until
from tests.support.held_upstream import HeldCall, HeldUpstream, running_held_upstream
from tests.support.legacy import assert_valid
from tests.support.origins import RawOrigin, running_origin
from tests.support.running import LOOPBACK
from tests.support.storm_bridge import LOGINS, BridgeProcess
from tests.support.storm_sandbox import Content
from tests.support.tls_fronts import (
    FRONTS,
    HOSTS,
    NAME,
    Backend,
    Fronted,
    TlsFront,
    check,
    fronted_bridges,
    need,
    running_tls_front,
)
from tests.support.upstream import message, page

PAIR = base64.b64encode(b"any@example.com:sandbox-token").decode()
XML = b"<invoice-message><body>%s</body><recipients>a@b.org</recipients></invoice-message>"
BODY = XML % b"Once"
LIMIT = 2**20


def head(
    method: str = "GET",
    path: str = "/invoice/1420/messages/409",
    *more: str,
    version: str = "1.1",
    host: str | None = NAME,
) -> bytes:
    """Write a head; its connection ends with it."""
    lines = [
        f"{method} {path} HTTP/{version}",
        *([] if host is None else [f"Host: {host}"]),
        f"Authorization: Basic {PAIR}",
        "Connection: close",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def post(body: bytes = BODY, *more: str, **options: str) -> bytes:
    """Write a request that sends a message."""
    length = f"Content-Length: {len(body)}"
    return head("POST", "/invoice/1420/messages", length, *more, **options) + body


def statuses(answer: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d+) ", answer)]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(params=FRONTS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    need(request.param)
    name: str = request.param
    return name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting(kind: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronted]:
    async with fronted_bridges(kind, tmp_path_factory.mktemp("front")) as running:
        yield running


@pytest.fixture
def fronted(lasting: Fronted) -> Fronted:
    """Bridges and a front that others use as well: what they have to say is of one test."""
    lasting.v2.calls.clear()
    return lasting


@pytest_asyncio.fixture(loop_scope="module")
async def throttled(kind: str, tmp_path: Path) -> AsyncIterator[Fronted]:
    """Before bridges of its own, which v2 has told to wait: each says 503."""
    async with fronted_bridges(kind, tmp_path / "front") as running:
        await running.v2.add_rule(fault="throttle", retry_after=60)
        yield running


@pytest.mark.parametrize("bridges", [1, 2])
async def test_its_own_tool_finds_nothing_wrong(kind: str, tmp_path: Path, bridges: int) -> None:
    status, said = await check(kind, tmp_path, [Backend(8081, 8091), Backend(8082, 8092)][:bridges])

    assert status == 0, said


OLD_TLS = {
    "haproxy": {
        "    ssl-default-bind-options ssl-min-ver TLSv1.2\n": "",
        "#ssl-default-bind-": "ssl-default-bind-",
    },
    "nginx": {"    ssl_protocols TLSv1.2 TLSv1.3;\n": "", "#ssl_": "ssl_"},
}
"""What its file says of clients of old TLS, put in force."""


@pytest.mark.parametrize("name", OLD_TLS)
@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
async def test_it_speaks_old_tls_only_if_told_so(name: str, is_told: bool, tmp_path: Path) -> None:
    instead = OLD_TLS[name] if is_told else {}
    client = "openssl s_client -tls1 -noservername -cipher ALL:@SECLEVEL=0 -connect {}:{}"
    async with running_tls_front(name, tmp_path / "front", [Backend(8081, 8091)], instead) as front:
        process = await asyncio.create_subprocess_exec(
            *client.format(LOOPBACK, front.port).split(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        said, _ = await process.communicate()

    assert (b"Cipher    : ECDHE-ECDSA-AES256-SHA\n" in said) is is_told


class TestOldClients:
    async def test_calls_with_curl(self, fronted: Fronted) -> None:
        """Those that README.md shows and names, by another implementation of HTTP and TLS."""
        front = fronted.front
        for path, schema in (
            ("/invoice/1420/messages/409", "invoice-messages/classic-item"),
            ("/invoice/1420/messages", "invoice-messages/classic-list"),
            ("/invoices/1420/messages", "invoice-messages/final-list"),
            ("/invoices/1420/payments", "invoice-payments/final-list"),
            ("/account/who_am_i", "account/who-am-i/classic-item"),
        ):
            assert_valid(await curl(front, path), schema)
        made = await curl(front, "/invoice/1420/messages", "-d", BODY.decode())
        assert_valid(made, "invoice-messages/classic-item")
        id_ = re.search(rb"<id[^>]*>(\d+)", made)
        assert id_
        assert await curl(front, f"/invoice/1420/messages/{id_[1].decode()}", "-X", "DELETE") == b""
        assert len(fronted.v2.made()) == 1

    async def test_several_calls_on_one_connection(self, fronted: Fronted) -> None:
        kept = [each.replace(b"Connection: close\r\n", b"") for each in (head(), post())]
        async with fronted.front.connection() as (reader, writer):
            for call, status in ((kept[0], b"200"), (kept[1], b"201"), (kept[0], b"200")):
                writer.write(call)
                told = await reader.readuntil(b"\r\n\r\n")
                assert told.split()[1] == status
                length = re.search(rb"Content-Length: (\d+)", told)
                assert length
                await reader.readexactly(int(length[1]))

    async def test_http_1_0_with_and_without_a_host(self, fronted: Fronted) -> None:
        for host in (NAME, None):
            answer = await fronted.front.raw(head(version="1.0", host=host))

            assert statuses(answer) == [200]
            told, _, body = answer.partition(b"\r\n\r\n")
            assert b"chunked" not in told
            assert f"Content-Length: {len(body)}".encode() in told

    async def test_who_expects_100_continue_is_told_to(self, fronted: Fronted) -> None:
        whole = post(BODY, "Expect: 100-continue")
        async with fronted.front.connection() as (reader, writer):
            writer.write(whole.removesuffix(BODY))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(BODY)

            assert statuses(await reader.read()) == [201]

    async def test_names_of_headers_in_any_case(self, fronted: Fronted) -> None:
        names, _, body = post().partition(b"\r\n\r\n")
        request, _, fields = names.partition(b"\r\n")
        for spell in (bytes.lower, bytes.upper):
            spelled = b"\r\n".join(
                spell(name) + b":" + text
                for name, _, text in (each.partition(b":") for each in fields.split(b"\r\n"))
            )
            answer = await fronted.front.raw(request + b"\r\n" + spelled + b"\r\n\r\n" + body)

            assert statuses(answer) == [201]

    async def test_answers_spell_names_as_v1_did(self, fronted: Fronted) -> None:
        names = {"Content-Type", "Content-Length", "X-Request-Id", "Deprecation", "Link", "Date"}
        for call, more in (
            (post(), {"Location"}),
            (post(b"<nonsense>"), {"Hint"}),
            (head("PUT"), {"Allow"}),
            (head().replace(b"Basic", b"None"), {"WWW-Authenticate"}),
        ):
            answer = await fronted.front.raw(call)
            told = set(re.findall(r"(?m)^([\w-]+):", answer.partition(b"\r\n\r\n")[0].decode()))
            if fronted.front.name == "caddy":  # as its file says
                told = {name.replace("Www", "WWW") for name in told}
            assert names | more <= told

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_who_sends_byte_by_byte_is_served(self, fronted: Fronted, method: str) -> None:
        whole = head() if method == "GET" else post()

        answer = await fronted.front.raw(*(whole[n : n + 1] for n in range(len(whole))))

        assert statuses(answer) == [200 if method == "GET" else 201]

    async def test_a_chunked_body(self, fronted: Fronted) -> None:
        chunks = b"%x;ext=1\r\n%s\r\n5\r\n     \r\n0\r\n\r\n" % (len(BODY), BODY)
        call = head("POST", "/invoice/1420/messages", "Transfer-Encoding: chunked") + chunks

        assert statuses(await fronted.front.raw(call)) == [201]
        assert list(fronted.v2.made()) == [Content(1420, None, "Once")]

    @pytest.mark.parametrize(
        ("size", "status"), [(LIMIT - 1, 201), (LIMIT, 201), (LIMIT + 1, 413), (4 * LIMIT, 413)]
    )
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_body_as_long_as_the_bridge_lets_it_be(
        self, fronted: Fronted, size: int, status: int, chunked: bool
    ) -> None:
        body = BODY.replace(b"Once", b"Once" + b"<!--" + b" " * (size - len(BODY) - 7) + b"-->")
        assert len(body) == size
        if chunked:
            call = head("POST", "/invoice/1420/messages", "Transfer-Encoding: chunked")
            call += b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
        else:
            call = post(body)

        answer = await fronted.front.raw(call)

        assert statuses(answer) == [status]
        if status == 413:
            assert_valid(answer.partition(b"\r\n\r\n")[2], "errors")
        assert len(fronted.v2.made()) == (status == 201)


@pytest_asyncio.fixture(scope="class", loop_scope="module")
async def hurried(kind: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronted]:
    """Before bridges of their own, with times that a test can wait for."""
    instead = {
        "haproxy": {"timeout http-request 20s": "timeout http-request 500ms"},
        "nginx": {
            "client_header_timeout 20s": "client_header_timeout 500ms",
            "client_body_timeout 30s": "client_body_timeout 500ms",
        },
        "caddy": {"read_header 20s": "read_header 500ms"},
    }[kind]
    folder = tmp_path_factory.mktemp("hurried") / "front"
    async with fronted_bridges(kind, folder, instead, body_timeout=0.5) as running:
        yield running


class TestWhoIsSlow:
    async def test_a_head_that_does_not_come_whole(self, hurried: Fronted) -> None:
        async with hurried.front.connection() as (reader, writer):
            writer.write(head()[:-4])

            assert statuses(await reader.read()) in ([], [408])
        assert hurried.v2.calls == []

    @pytest.mark.parametrize("come", [0, 40])
    async def test_a_body_that_does_not_come_whole(self, hurried: Fronted, come: int) -> None:
        """HAProxy and Caddy pass on what the bridge says; nginx has asked none, and says nothing."""
        async with hurried.front.connection() as (reader, writer):
            writer.write(post()[: come - len(BODY)])
            if hurried.front.name == "nginx":
                assert await reader.read() == b""
            else:
                told = await reader.readuntil(b"\r\n\r\n")
                assert statuses(told) == [408]
                assert_valid(await reader.readuntil(b"</errors>"), "errors")
        assert hurried.v2.made() == {}


UPLOADS = {
    "nginx": {
        "    client_max_body_size 2m;\n": "",
        "#client_max_body_size": "client_max_body_size",
        "#proxy_request_buffering": "proxy_request_buffering",
    }
}
"""What a front's file says of uploads that are passed through to v1, put in force."""


@pytest_asyncio.fixture(scope="class", loop_scope="module")
async def origin() -> AsyncIterator[RawOrigin]:
    """A v1."""
    async with running_origin() as running:
        yield running


@pytest_asyncio.fixture(scope="class", loop_scope="module")
async def passing(
    kind: str, origin: RawOrigin, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fronted]:
    """Before bridges that pass through to v1 what they do not translate."""
    folder = tmp_path_factory.mktemp("passing") / "front"
    instead = UPLOADS.get(kind, {})
    async with fronted_bridges(kind, folder, instead, legacy_origin=origin.url) as running:
        yield running


class TestUploadsToV1:
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_one_of_5_mb_comes_whole(
        self, passing: Fronted, origin: RawOrigin, chunked: bool
    ) -> None:
        receipt = bytes(range(256)) * (5 * LIMIT // 256)
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(receipt), receipt) if chunked else receipt
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(receipt)}"
        call = head("POST", "/expenses/7/receipt", "Content-Type: image/png", length) + body

        answer = await passing.front.raw(call)

        assert statuses(answer) == [200]
        assert answer.endswith(b"<v1/>\n")
        assert origin.bodies.pop() == receipt

    async def test_what_is_translated_is_bounded_as_ever(self, passing: Fronted) -> None:
        answer = await passing.front.raw(post(XML % (b" " * 4 * LIMIT)))

        assert statuses(answer) == [413]
        assert passing.v2.made() == {}


async def test_tls_1_1_is_refused(fronted: Fronted) -> None:
    trust = fronted.front.trust()
    trust.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL does not even offer it
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1

    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        await asyncio.open_connection(
            "127.0.0.1", fronted.front.port, ssl=trust, server_hostname=NAME
        )


async def test_a_write_that_was_told_is_another_one_when_it_is_sent_again(fronted: Fronted) -> None:
    """However a front ends its connection to the bridge, this learns that the answer has come."""
    twice = post(XML % b"Twice")
    for _ in range(12):
        assert statuses(await fronted.front.raw(twice)) == [201]

    assert len(fronted.v2.made()[Content(1420, None, "Twice")]) == 12


async def curl(front: TlsFront, path: str, *arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--fail", "--http1.1", "--noproxy", "*"),
        *("--cacert", front.certificate.authority),
        *("--resolve", f"{NAME}:{front.port}:127.0.0.1", "-u", "any@example.com:sandbox-token"),
        *("-H", "Content-Type: application/xml", *arguments),
        f"https://{NAME}:{front.port}{path}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, wrong = await process.communicate()
    assert process.returncode == 0, wrong.decode()
    return said


async def test_of_what_was_refused_only_a_read_is_asked_for_again(throttled: Fronted) -> None:
    """A bridge that is about to stop says 503, too, and another one may serve."""
    for call in (
        head("GET", f"{PATH}/409", "X-Request-Id: read"),
        post(BODY, "X-Request-Id: write"),
        head("DELETE", f"{PATH}/409", "X-Request-Id: delete"),
    ):
        answer = await throttled.front.raw(call)

        assert statuses(answer) == [503]
        assert b"\r\nRetry-After: " in answer
        assert_valid(answer.partition(b"\r\n\r\n")[2], "errors")

    def served(name: str) -> list[int]:
        lines = throttled.log.lines("legacy_call")
        return [line["status"] for line in lines if line["request_id"] == name]

    await until(lambda: len(served("read")) > 1 and served("write") and served("delete"))
    assert set(served("read")) == {503}
    assert (served("write"), served("delete")) == ([503], [503])


class TestWhoCalls:
    async def test_what_a_client_says_of_itself_does_not_count(self, fronted: Fronted) -> None:
        forged = (
            "X-Forwarded-For: 203.0.113.9",
            "x-forwarded-for: 203.0.113.10",
            "X-Forwarded-Host: second.harvestapp.com",
            "X-Forwarded-Proto: http",
            "Forwarded: for=203.0.113.11",
            "Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto",
        )
        call = head("GET", "/account/who_am_i", "X-Request-Id: forged", *forged)

        answer = await fronted.front.raw(call)

        assert statuses(answer) == [200]
        assert f"https://{NAME}".encode() in answer

        def lines() -> list[dict[str, Any]]:
            told = fronted.log.lines("legacy_call")
            return [line for line in told if line["request_id"] == "forged"]

        await until(lines)
        (line,) = lines()
        assert (line["address"], line["host"]) == ("127.0.0.1", NAME)

    async def test_the_logs_have_no_credential(self, fronted: Fronted, throttled: Fronted) -> None:
        secret = "7654321.pt.nobody-may-read-this"
        hidden = base64.b64encode(f"a:{secret}".encode()).decode()
        for front in (
            fronted.front,
            throttled.front,
        ):  # which has something to say of refusals, too
            for call in (
                head("GET", f"/invoice/1420/messages?access_token={secret}"),
                head("GET", f"/invoice/{secret}/messages"),
                head().replace(PAIR.encode(), hidden.encode()),
                head("GET", f"/invoice/1420/messages?access_token={secret}", "Content-Length: x"),
                head("GET", f"http://{secret}/invoice/1420/messages?access_token={secret}"),
                f"{secret}\r\n\r\n".encode(),
                post(BODY.replace(b"Once", secret.encode())),
            ):
                await front.raw(call)

            for told in (secret, hidden, PAIR, "nobody-may"):
                assert told not in front.logs


CONTACTS = ("one@example.com", "two@example.com")
"""By which v2 can tell the bridges apart."""


class Halves:
    """Two bridges in processes of their own, before a v2 whose answers wait."""

    def __init__(self, bridges: Sequence[BridgeProcess], front: TlsFront, v2: HeldUpstream) -> None:
        self.bridges = bridges
        self.front = front
        self.v2 = v2

    async def start(self) -> None:
        """Start the bridges that do not run, and wait until the front calls both."""
        await asyncio.gather(*(each.start() for each in self.bridges if not each.lives))
        while not await self._calls_both():
            pass
        self.v2.forget()

    async def _calls_both(self) -> bool:
        """Hold two reads at once: who gives calls to the one that has fewest gives one to each."""
        names = [uuid4().hex for _ in CONTACTS]
        reads = [
            await self.ask(head("GET", f"/invoice/{number}/messages/409", f"X-Request-Id: {name}"))
            for number, name in enumerate(names, 1)
        ]
        asked = {self._who_asks(held) for _, held in reads}
        for calling, held in reads:
            held.answer(page(message(id=409)))
            assert statuses(await calling) == [200]
        await until(lambda: all(name in self.front.logs for name in names))
        # HAProxy calls both, too, where it takes neither for ready; but then it makes no second try.
        lines = [line for line in self.front.logs.splitlines() if any(map(line.count, names))]
        return len(asked) == len(CONTACTS) and not any(" listening/" in line for line in lines)

    async def ask(self, *pieces: bytes) -> tuple["asyncio.Task[bytes]", HeldCall]:
        """Have a call made until v2 is asked: a front may not have seen yet that a bridge is back."""
        while True:
            calling = asyncio.create_task(self.front.raw(*map(of_the_book, pieces)))
            if held := await self.v2.next_of(calling):
                return calling, held
            assert statuses(calling.result()) in ([], [502], [503])

    @staticmethod
    def _who_asks(held: HeldCall) -> int:
        asked = held.received.headers["User-Agent"]
        (place,) = (place for place, contact in enumerate(CONTACTS) if contact in asked)
        return place

    async def kill_who_asks(self, held: HeldCall) -> None:
        """Kill the bridge that has made a v2 call."""
        await self.bridges[self._who_asks(held)].kill()

    async def leave_nothing(self) -> None:
        """End what a test that has failed leaves at v2, with who would ask on because of it."""
        if self.v2.holds_any:
            await asyncio.gather(*(each.kill() for each in self.bridges if each.lives))
        self.v2.forget()

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Have v2 answer at once."""

        async def answer() -> None:
            while True:
                held = await self.v2.next()
                if held.received.method == "POST":
                    held.answer(MADE, 201)
                else:
                    held.answer(page(message(id=409)))

        answers = asyncio.create_task(answer())
        try:
            yield
        finally:
            answers.cancel()


QUICK_TO_SEE = {
    "haproxy": {"downinter 500ms": "downinter 50ms"},
    "nginx": {},
    "caddy": {"health_interval 1s": "health_interval 100ms"},
}
"""So that no test waits long for a front to see that a bridge is back."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both_halves(kind: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Halves]:
    folder = tmp_path_factory.mktemp("processes")
    async with AsyncExitStack() as stack:
        v2 = await stack.enter_async_context(running_held_upstream())
        bridges: list[BridgeProcess] = []
        for contact, host in zip(CONTACTS, HOSTS, strict=True):
            own = folder / contact
            own.mkdir()
            bridge = BridgeProcess(
                *(own, v2.base_url, f"--contact={contact}", f"--host={host}"),
                *(f"--admin-host={host}", "--trusted-proxies=127.0.0.1", "--call-timeout=30"),
                *(f"--admin-port={each.admin_port}" for each in bridges),
            )
            stack.push_async_callback(bridge.close)
            bridges.append(bridge)
        admin_port = bridges[0].admin_port
        places = [
            Backend(each.port, admin_port, host) for each, host in zip(bridges, HOSTS, strict=True)
        ]
        front = await stack.enter_async_context(
            running_tls_front(kind, folder / "front", places, QUICK_TO_SEE[kind])
        )
        yield Halves(bridges, front, v2)


@pytest_asyncio.fixture(loop_scope="module")
async def both(both_halves: Halves) -> AsyncIterator[Halves]:
    await both_halves.start()
    yield both_halves
    await both_halves.leave_nothing()


FIRST = base64.b64encode(":".join(LOGINS[1000][1:]).encode()).decode()


def of_the_book(call: bytes) -> bytes:
    """Have a call made by a login of the book."""
    return call.replace(PAIR.encode(), FIRST.encode()).replace(
        NAME.encode(), b"first.harvestapp.com"
    )


@pytest.mark.kill
@pytest.mark.timeout(300)  # which start several processes each
class TestABridgeGoes:
    """Writes have texts of their own: one that came to nothing would be taken up by an equal one."""

    async def test_a_write_under_way_is_not_sent_again(self, both: Halves) -> None:
        """Its bridge is killed with the call at v2: what became of it, no front can know."""
        for call in (
            post(XML % b"Under way"),
            head("POST", f"{PATH}/mark_as_sent", "Content-Length: 0", *REPLAYED),
            head("DELETE", f"{PATH}/409"),
        ):
            await both.start()
            calling, held = await both.ask(call)
            await both.kill_who_asks(held)
            answer = await calling

            assert statuses(answer) == [502]
            assert_valid(answer.partition(b"\r\n\r\n")[2], "errors")
            assert both.v2.calls == [held]

    async def test_a_read_under_way_is_made_by_the_other(self, both: Halves) -> None:
        calling, held = await both.ask(head())
        await both.kill_who_asks(held)
        again = await both.v2.next_of(calling)
        assert again, calling.result()
        again.answer(page(message(id=409)))

        assert statuses(await calling) == [200]

    async def test_what_comes_next_goes_to_the_other(self, kind: str, both: Halves) -> None:
        """A bridge that is gone takes no connection, so nothing has been sent to it."""
        await both.bridges[0].kill()
        async with both.answering():
            for number in range(4):
                write = of_the_book(post(XML % b"Next %d" % number))
                while (answer := statuses(await both.front.raw(write))) != [201]:
                    assert kind == "caddy"  # as its file says
                    assert answer in ([502], [503])
                assert statuses(await both.front.raw(of_the_book(head()))) == [200]
        assert [each.received.method for each in both.v2.calls].count("POST") == 4

    async def test_no_read_fails_while_bridges_are_told_to_stop(self, both: Halves) -> None:
        over = asyncio.Event()

        async def read_on() -> list[int]:
            told = []
            while not over.is_set():
                told += statuses(await both.front.raw(of_the_book(head()))) or [0]
            return told

        async with both.answering():
            reading = [asyncio.create_task(read_on()) for _ in range(2)]
            for bridge in both.bridges:
                assert await bridge.end(signal.SIGTERM) == 0
                await bridge.start()
                await bridge.told(lambda line: line["event"] == "legacy_call")
            over.set()
            told = chain.from_iterable(await asyncio.gather(*reading))

        assert set(told) == {200}

    async def test_a_call_under_way_is_finished_by_a_bridge_that_stops(self, both: Halves) -> None:
        calling, held = await both.ask(post(XML % b"Finished"))
        ending = [asyncio.create_task(each.end(signal.SIGTERM)) for each in both.bridges]
        held.answer(MADE, 201)

        assert statuses(await calling) == [201]
        assert [await each for each in ending] == [0, 0]

    async def test_where_none_is_left_nothing_was_done(self, both: Halves) -> None:
        for bridge in both.bridges:
            await bridge.kill()
        answer = await both.front.raw(of_the_book(post(XML % b"To none")))

        assert statuses(answer)[0] in {502, 503}
        assert_valid(answer.partition(b"\r\n\r\n")[2], "errors")
        assert both.v2.calls == []

    async def test_an_answer_that_its_client_is_gone_for_counts_as_not_told(
        self, both: Halves
    ) -> None:
        """Else the same write sent again would be another one, and a second mail."""
        ended = [
            each.told(lambda line: line.get("request_id") == "gone" and "status" in line)
            for each in both.bridges
        ]
        body = XML % b"To nobody"
        call = post(body, "X-Request-Id: gone")
        # Not all at once: a front may still be reading the client when it has begun with the bridge.
        calling, held = await both.ask(call[: -len(body)], *(bytes([each]) for each in body))
        said = both.front.logs.count("POST")
        calling.cancel()
        await until(lambda: both.front.logs.count("POST") > said)
        held.answer(MADE, 201)

        (line,), _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        assert line.result()["event"] == "client_gone"


MADE = message(id=501, body="Once", recipients=[{"name": None, "email": "a@b.org"}])
PATH = "/invoice/1420/messages"
REPLAYED = ("Idempotency-Key: 1", "X-Idempotency-Key: 1")
"""What makes Go's client send a request again."""
