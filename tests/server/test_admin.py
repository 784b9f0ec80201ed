"""The admin side: health and readiness, on an address of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from bridge.server.admin.health import PROBE, Check, Readiness, upstream_check
from bridge.server.admin.side import CONNECTIONS, LIFETIME, AdminSide, listening_admin
from tests.support.clocks import Leaps, until
from tests.support.running import LOOPBACK
from tests.support.upstream import Reply, ScriptedUpstream, running_raw_upstream

SHORT = 0.05

HALF_A_BODY = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1234"


async def good() -> None:
    return None


async def bad() -> str | None:
    return "no book"


async def failing() -> str | None:
    raise RuntimeError("token=hush")


async def endless() -> str | None:
    await asyncio.Event().wait()
    return None


@asynccontextmanager
async def running_admin(admin: AdminSide) -> AsyncIterator[str]:
    """Run an admin side and yield its base URL."""
    async with listening_admin(admin, LOOPBACK, 0) as port:
        yield f"http://{LOOPBACK}:{port}"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def asked(
    session: aiohttp.ClientSession, checks: Mapping[str, Check], path: str, method: str = "GET"
) -> tuple[int, Any]:
    """Call an admin side that has `checks`, and return the status and the JSON."""
    async with (
        running_admin(AdminSide(Readiness(checks, timeout=SHORT))) as url,
        session.request(method, url + path) as response,
    ):
        body = await response.read()
        return response.status, json.loads(body) if body else None


async def test_health_asks_nobody(session: aiohttp.ClientSession) -> None:
    checks = {"bad": bad, "endless": endless, "failing": failing}

    assert await asked(session, checks, "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("checks", "status", "body"),
    [
        pytest.param({}, 200, {"status": "ok", "checks": {}}, id="nothing to check"),
        pytest.param(
            {"upstream": good, "book": good},
            200,
            {"status": "ok", "checks": {"upstream": "ok", "book": "ok"}},
            id="all is well",
        ),
        pytest.param(
            {"upstream": good, "book": bad},
            503,
            {"status": "unavailable", "checks": {"upstream": "ok", "book": "no book"}},
            id="one is not",
        ),
        pytest.param(
            {"upstream": endless, "book": good},
            503,
            {"status": "unavailable", "checks": {"upstream": "no answer within 0.05 s", "book": "ok"}},
            id="one does not answer",
        ),
        pytest.param(
            {"upstream": failing, "book": good},
            503,
            {"status": "unavailable", "checks": {"upstream": "RuntimeError", "book": "ok"}},
            id="one fails, and its words are kept back",
        ),
    ],
)  # fmt: skip
async def test_readiness_is_what_every_check_says(
    session: aiohttp.ClientSession, checks: Mapping[str, Check], status: int, body: dict[str, Any]
) -> None:
    body["checks"] = {"phase": "ok", **body["checks"]}

    assert await asked(session, checks, "/readyz") == (status, body)


async def test_readiness_knows_at_once_where_the_bridge_stands(
    session: aiohttp.ClientSession,
) -> None:
    """A result that is good for a while yet must not send calls to a bridge that stops."""
    phases = iter(["starting", "ok", "stopping"])
    admin = AdminSide(Readiness({"upstream": good}, cache_time=60), phase=lambda: next(phases))
    told = []
    async with running_admin(admin) as url:
        for _ in range(3):
            async with session.get(url + "/readyz") as response:
                told.append((response.status, (await response.json())["checks"]["phase"]))

    assert told == [(503, "starting"), (200, "ok"), (503, "stopping")]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 503),
        ("?exclude=upstream", 503),
        ("?exclude=upstream&exclude=journal", 200),
        ("?exclude=upstream&exclude=journal&exclude=unheard-of", 200),
    ],
)
async def test_checks_that_are_excluded_are_shown_and_do_not_count(
    session: aiohttp.ClientSession, query: str, status: int
) -> None:
    checks = {"upstream": bad, "journal": bad, "book": good}
    answered, told = await asked(session, checks, f"/readyz{query}")

    assert answered == status
    assert told["checks"] == {
        "phase": "ok",
        "upstream": "no book",
        "journal": "no book",
        "book": "ok",
    }


async def test_the_end_of_a_bridge_cannot_be_excluded(session: aiohttp.ClientSession) -> None:
    admin = AdminSide(Readiness({}), phase=lambda: "stopping")
    async with (
        running_admin(admin) as url,
        session.get(f"{url}/readyz?exclude=phase") as response,
    ):
        assert response.status == 503


async def test_readiness_shows_what_else_is_to_be_known(session: aiohttp.ClientSession) -> None:
    admin = AdminSide(Readiness({}), state=lambda: {"breakers": {"upstream": "closed"}})
    async with running_admin(admin) as url, session.get(url + "/readyz") as response:
        assert (await response.json())["breakers"] == {"upstream": "closed"}


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 503)])
async def test_head_answers_as_get(session: aiohttp.ClientSession, path: str, status: int) -> None:
    assert await asked(session, {"book": bad}, path, "HEAD") == (status, None)


@pytest.mark.parametrize("path", ["/", "/invoice/1420/messages", "/healthz/", "/readyz/more"])
async def test_nothing_else_is_here(session: aiohttp.ClientSession, path: str) -> None:
    async with (
        running_admin(AdminSide(Readiness({}))) as url,
        session.get(url + path) as response,
    ):
        assert response.status == 404


async def test_answers_are_not_kept_by_anything_between(session: aiohttp.ClientSession) -> None:
    async with (
        running_admin(AdminSide(Readiness({}))) as url,
        session.get(url + "/readyz") as response,
    ):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.content_type == "application/json"


class TestManyProbes:
    async def test_together_share_one_check(self) -> None:
        ran: list[str] = []
        started, go_on = asyncio.Event(), asyncio.Event()

        async def counted() -> None:
            ran.append("once")
            started.set()
            await go_on.wait()

        readiness = Readiness({"upstream": counted}, cache_time=60)
        probes = [asyncio.create_task(readiness.results()) for _ in range(50)]
        await started.wait()
        go_on.set()

        assert await asyncio.gather(*probes) == [{"upstream": "ok"}] * 50
        assert ran == ["once"]

    async def test_see_a_change_once_the_last_result_is_old(self) -> None:
        said = iter([None, "gone", None])

        async def changing() -> str | None:
            return next(said)

        readiness = Readiness({"upstream": changing}, cache_time=0)

        assert [(await readiness.results())["upstream"] for _ in range(3)] == ["ok", "gone", "ok"]

    async def test_one_that_gives_up_does_not_hold_up_the_next(self) -> None:
        readiness = Readiness({"upstream": endless}, timeout=SHORT, cache_time=60)
        first = asyncio.create_task(readiness.results())
        await asyncio.sleep(0)
        first.cancel()

        assert await readiness.results() == {"upstream": "no answer within 0.05 s"}

    async def test_checks_run_at_the_same_time(self) -> None:
        met = asyncio.Barrier(2)

        async def meeting() -> None:
            await met.wait()

        readiness = Readiness({"upstream": meeting, "book": meeting})

        assert await readiness.results() == {"upstream": "ok", "book": "ok"}


V2_REFUSES = json.dumps({"error": "invalid_token", "error_description": "It is expired."}).encode()
ELSEWHERE = {"Content-Type": "text/html; charset=utf-8", "Location": "http://localhost:1/"}


class TestUpstream:
    @pytest.mark.parametrize("status", [400, 401, 403])
    @pytest.mark.parametrize("body", [V2_REFUSES, b'{"message": "Not allowed"}'])
    async def test_v2_is_known_by_its_refusal(
        self, session: aiohttp.ClientSession, upstream: ScriptedUpstream, status: int, body: bytes
    ) -> None:
        upstream.says(Reply(body, status))

        assert await upstream_check(upstream.base_url, session)() is None
        assert [(call.method, call.path) for call in upstream.received] == [("GET", "/v2/users/me")]
        assert "Authorization" not in upstream.received[0].headers

    @pytest.mark.parametrize(("status", "heard"), [(400, 0), (401, 1), (403, 0), (502, 0)])
    async def test_what_may_be_a_gateways_refusal_tells_no_time(
        self, session: aiohttp.ClientSession, upstream: ScriptedUpstream, status: int, heard: int
    ) -> None:
        upstream.says(Reply(V2_REFUSES, status))
        dates: list[str | None] = []

        await upstream_check(upstream.base_url, session, dates.append)()

        assert len(dates) == heard

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_one_that_is_down_or_throttles_is_not_judged(
        self, session: aiohttp.ClientSession, upstream: ScriptedUpstream, status: int
    ) -> None:
        upstream.says(Reply(b"<html>Sorry</html>", status, ELSEWHERE))

        assert await upstream_check(upstream.base_url, session)() is None

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            pytest.param(200, b"<html>Welcome</html>", id="page"),
            pytest.param(200, V2_REFUSES, id="no-refusal"),
            pytest.param(302, b"", id="redirection"),
            pytest.param(404, b"<html>Not found</html>", id="not-found"),
            pytest.param(404, b'{"message": "Not Found"}', id="not-found-in-json"),
            pytest.param(401, b"<html>Log in</html>", id="refusal-in-html"),
            pytest.param(401, b"", id="refusal-without-words"),
            pytest.param(401, b'["invalid_token"]', id="refusal-as-a-list"),
            pytest.param(401, b'{"code": 401}', id="refusal-without-why"),
            pytest.param(401, b'{"message": null}', id="refusal-with-null"),
            pytest.param(401, b"[" * 4000, id="nested-refusal"),
            pytest.param(401, b'{"message": "%s"}' % (b"a" * 1_000_000), id="endless-refusal"),
        ],
    )
    async def test_a_web_server_is_no_v2(
        self,
        session: aiohttp.ClientSession,
        upstream: ScriptedUpstream,
        status: int,
        body: bytes,
    ) -> None:
        upstream.says(Reply(body, status, ELSEWHERE))

        assert await upstream_check(upstream.base_url, session)() == (
            f"no v2: {upstream.base_url}/users/me answered {status} with text/html, where v2 "
            "refuses a call without a token, in JSON"
        )

    @pytest.mark.parametrize(("path", "passes"), [("/v2", True), ("", False), ("/v1", False)])
    async def test_the_sandbox_is_v2_under_its_path_only(
        self, session: aiohttp.ClientSession, sandbox: str, path: str, passes: bool
    ) -> None:
        """A base URL without `/v2` is the most likely mistake of all."""
        base_url = sandbox.removesuffix("/v2") + path

        said = await upstream_check(base_url, session)()

        assert (said is None) == passes
        assert passes or (said or "").startswith(f"no v2: {base_url}{PROBE} answered 404 ")
        assert passes or (said or "").endswith(": upstream should end in /v2")

    async def test_none_will_not(
        self, session: aiohttp.ClientSession, unused_tcp_port: int
    ) -> None:
        said = await upstream_check(f"http://{LOOPBACK}:{unused_tcp_port}/v2", session)()

        assert said == f"unreachable: {LOOPBACK}:{unused_tcp_port} refuses connections"

    async def test_what_is_not_http_is_no_answer(self, session: aiohttp.ClientSession) -> None:
        async with running_raw_upstream(b"220 mail.example.com ESMTP\r\n") as url:
            said = await upstream_check(url, session)()

        assert said is not None
        assert said.startswith("unreachable: ")

    async def test_what_speaks_no_tls_is_no_answer(
        self, session: aiohttp.ClientSession, upstream: ScriptedUpstream
    ) -> None:
        url = upstream.base_url.replace("http:", "https:")

        assert (await upstream_check(url, session)() or "").startswith("unreachable: no TLS at ")

    async def test_silence_is_cut_off(self, session: aiohttp.ClientSession) -> None:
        async with running_raw_upstream(b"", hang=True) as url:
            checks = {"upstream": upstream_check(url, session)}

            assert (await asked(session, checks, "/readyz"))[0] == 503


class TestHost:
    """A page in a browser can make any name of its own lead here, and read what it is answered."""

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "admin.internal.evil.example",
            "[evil.example]:8090",
            "[127.0.0.1].evil.example",
            "[::1]evil.example:8090",
            "[::1",
            "evil.example:127.0.0.1",
            "2130706433",
            "",
        ],
    )
    async def test_a_name_that_others_can_give_is_misdirected(
        self, session: aiohttp.ClientSession, host: str, path: str
    ) -> None:
        admin = AdminSide(Readiness({}), names=["admin.internal"], state=lambda: {"secret": 1})
        async with (
            running_admin(admin) as url,
            session.get(url + path, headers={"Host": host}) as response,
        ):
            said = await response.json()

        assert (response.status, list(said)) == (421, ["status"])

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1:8090",
            "192.0.2.7",
            "[::1]:8090",
            "[2001:db8::7]",
            "localhost",
            "LOCALHOST.:8090",
            "admin.internal",
            "Admin.Internal:8090",
        ],
    )
    async def test_an_address_and_the_operators_own_names_are_not(
        self, session: aiohttp.ClientSession, host: str
    ) -> None:
        async with (
            running_admin(AdminSide(Readiness({}), names=["admin.internal"])) as url,
            session.get(url + "/readyz", headers={"Host": host}) as response,
        ):
            assert response.status == 200

    async def test_nor_is_a_probe_that_gives_none(self) -> None:
        """HTTP/1.0, which no browser speaks."""
        async with running_admin(AdminSide(Readiness({}))) as url:
            reader, writer = await asyncio.open_connection(LOOPBACK, int(url.rpartition(":")[2]))
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()

        assert answer.startswith(b"HTTP/1.0 200 ")


class TestConnections:
    """Nobody has to log in here, so nobody may keep a connection."""

    async def opened(self, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, int(url.rpartition(":")[2]))

    async def test_are_closed_after_one_answer(self) -> None:
        async with running_admin(AdminSide(Readiness({}))) as url:
            reader, writer = await self.opened(url)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
            answers = await reader.read()
            writer.close()

        assert answers.count(b"HTTP/1.1 200 ") == 1
        assert b"Connection: close" in answers

    @pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nX: ", HALF_A_BODY])
    async def test_last_only_so_long(self, sent: bytes) -> None:
        admin, leaps = AdminSide(Readiness({})), Leaps()
        async with running_admin(admin) as url:
            reader, writer = await self.opened(url)
            writer.write(sent)
            await until(lambda: admin.open)
            leaps.ahead(LIFETIME + 1)
            with suppress(ConnectionError):
                await reader.read()
            writer.close()

        assert admin.open == 0

    async def test_are_so_many_at_most_and_the_silent_ones_go_first(
        self, session: aiohttp.ClientSession
    ) -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def waiting() -> None:
            asked.set()
            await go_on.wait()

        admin = AdminSide(Readiness({"upstream": waiting}))
        async with running_admin(admin) as url:
            probe, probing = await self.opened(url)
            probing.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asked.wait()
            silent = [await self.opened(url) for _ in range(CONNECTIONS + 10)]
            async with session.get(url + "/healthz") as response:
                status = response.status
            most = admin.open
            first_of_them = await silent[0][0].read()
            go_on.set()
            answer = await probe.read()
            for writer in (probing, *(each for _, each in silent)):
                writer.close()

        assert (status, first_of_them) == (200, b"")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert most <= CONNECTIONS
