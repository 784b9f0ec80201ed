"""Why v2 gave no answer, as the operator is told."""

import errno
import socket
import ssl

import aiohttp
import pytest
import trustme

from bridge.v2.unreachable import why_no_answer
from tests.support.running import LOOPBACK, running_app

V2 = "https://v2.example/v2"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (socket.gaierror(socket.EAI_NONAME, "any words"), "no such host: v2.example"),
        (
            socket.gaierror(socket.EAI_AGAIN, "Temporary failure"),
            "the name v2.example cannot be looked up: Temporary failure",
        ),
        (ConnectionRefusedError(), "v2.example:443 refuses connections"),
        (ConnectionResetError(), "v2.example:443 broke the connection"),
        (OSError(errno.ENETUNREACH, "secret"), "v2.example:443: Network is unreachable"),
        (OSError("secret"), "v2.example:443: OSError"),
        (TimeoutError("secret"), "no connection to v2.example:443 in time"),
        (aiohttp.ClientPayloadError("secret"), "v2.example:443 broke its answer off"),
        (ValueError("secret"), "no answer from v2.example:443: ValueError"),
        (ssl.SSLError("secret"), "TLS with v2.example:443 failed: the handshake was broken off"),
    ],
)
def test_each_error_has_its_words_and_no_others(error: Exception, expected: str) -> None:
    assert why_no_answer(error, V2) == expected


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://v2.example", "v2.example:80"),
        ("https://v2.example:8443/v2", "v2.example:8443"),
        ("http://[::1]:8081/v2", "[::1]:8081"),
    ],
)
def test_the_place_is_an_address_and_its_port(url: str, place: str) -> None:
    assert why_no_answer(ConnectionRefusedError(), url) == f"{place} refuses connections"


async def said_of(url: str) -> str:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError) as raised:
            await session.get(url)
    return why_no_answer(raised.value, url)


async def test_a_closed_port(unused_tcp_port: int) -> None:
    place = f"{LOOPBACK}:{unused_tcp_port}"

    assert await said_of(f"http://{place}/v2") == f"{place} refuses connections"


async def test_http_where_tls_is_spoken_to() -> None:
    async with running_app(aiohttp.web.Application()) as url:
        said = await said_of(url.replace("http:", "https:"))

    assert said.startswith(f"no TLS at {LOOPBACK}:")
    assert said.endswith(": is it http?")


async def test_a_certificate_that_nobody_vouches_for(unused_tcp_port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(LOOPBACK).configure_cert(context)
    runner = aiohttp.web.AppRunner(aiohttp.web.Application())
    await runner.setup()
    await aiohttp.web.TCPSite(runner, LOOPBACK, unused_tcp_port, ssl_context=context).start()
    try:
        said = await said_of(f"https://{LOOPBACK}:{unused_tcp_port}/v2")
    finally:
        await runner.cleanup()

    assert said == (
        f"the certificate of {LOOPBACK}:{unused_tcp_port} is not trusted: "
        "unable to get local issuer certificate"
    )
