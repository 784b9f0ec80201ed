"""Lines of the log that cannot be written, or hold what is no text: no call suffers from them."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from bridge.server import logs
from tests.support.legacy import BASIC, LegacyClient
from tests.support.logged import Logged, logging
from tests.support.running import running_bridge
from tests.support.upstream import Reply, ScriptedUpstream, page
from tests.support.writing import SEND, hello, posting


class Full(io.StringIO):
    """A disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture
def full_disk() -> Iterator[None]:
    logs.configure(Full())
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("full_disk")
class TestADiskThatIsFull:
    async def test_keeps_no_client_from_its_answer(self, upstream: ScriptedUpstream) -> None:
        upstream.says(Reply(json.dumps(hello()).encode(), 201))
        async with running_bridge(upstream.base_url) as client:
            assert (await posting(client)).status == 201

    async def test_keeps_nobody_from_being_told_what_is_wrong(
        self, upstream: ScriptedUpstream
    ) -> None:
        async with running_bridge(upstream.base_url) as client:
            assert (await client.raw(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")

    async def test_keeps_no_breaker_from_closing(self, upstream: ScriptedUpstream) -> None:
        """It tells the log of each of its states."""
        async with running_bridge(upstream.base_url) as client:
            upstream.says(Reply(b"", 500))
            for _ in range(5):
                await client.get(SEND)
            assert (await client.get(SEND)).status == 503


def test_a_failure_that_says_much_is_cut() -> None:
    with logging() as log:
        structlog.get_logger().error("defect", exc_info=ValueError("b" * 10**6))

    (line,) = log.lines("defect")
    assert line["exception"].startswith("ValueError: bb")
    assert len(line["exception"]) < 20_000


async def test_a_header_that_is_no_text_is_logged_and_keeps_its_connection(
    upstream: ScriptedUpstream,
) -> None:
    call = (
        f"GET {SEND} HTTP/1.1\r\nHost: a\r\nAuthorization: {BASIC}\r\n"
        "User-Agent: caf\xe9/1.0\r\n\r\n"
    ).encode("iso-8859-1")
    upstream.says(page())
    log: Logged
    with logging() as log:
        async with running_bridge(upstream.base_url) as client:
            await twice_on_one_connection(client, call)

    assert [line["user_agent"] for line in log.lines("legacy_call")] == ["caf\ufffd/1.0"] * 2


async def twice_on_one_connection(client: LegacyClient, call: bytes) -> None:
    async with client.connection() as (reader, writer):
        for _ in range(2):
            writer.write(call)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
