"""Who may see what is guarded on the admin side, and whose forms it acts upon."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import trustme
from aiohttp import web

from bridge.secret import Secret
from bridge.server.admin.guard import ATTEMPTS, PAUSE, SESSION_TIME, SESSIONS, Guard
from bridge.server.admin.health import Readiness
from bridge.server.admin.pages import static_routes
from bridge.server.admin.requests import FORM_LIMITS, AdminRequest, Route
from bridge.server.admin.side import CONNECTIONS, LIFETIME, REQUESTS, AdminSide, listening_admin
from bridge.server.serving import Contexts
from bridge.server.tls import server_context
from tests.support.certificates import put_in_place
from tests.support.clocks import HandClock, Leaps, until
from tests.support.running import LOOPBACK

TOKEN = "correct-horse-battery-staple"
HTML = {"Accept": "text/html"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = re.compile('name="csrf_token" value="([0-9a-f]{64})"')


class Tls(NamedTuple):
    """Both sides of it, with a private CA."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    certificate, key = put_in_place(authority.issue_cert("localhost", LOOPBACK), folder)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server_context([(certificate, key)]), client)


def _always(tls: ssl.SSLContext) -> Contexts:
    return lambda: tls


class Desk:
    """What is guarded: a page with a form, and what was sent with it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.routes = (
            Route("GET", "/desk/{name}", self.show),
            Route("POST", "/desk/{name}", self.take),
        )

    async def show(self, request: AdminRequest) -> web.Response:
        form = f'<input name="csrf_token" value="{request.csrf_token}">'
        return web.Response(text=form + request.variables["name"], content_type="text/html")

    async def take(self, request: AdminRequest) -> web.Response:
        self.notes.append((await request.form())["note"])
        return web.Response(status=303, headers={"Location": "/desk/a"})


class Admin:
    """An admin side, and a browser in front of it."""

    def __init__(
        self, desk: Desk, side: AdminSide, url: str, browser: aiohttp.ClientSession
    ) -> None:
        self.desk, self.side, self.url, self.browser = desk, side, url, browser

    async def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, **more: Any
    ) -> tuple[int, Mapping[str, str], str]:
        """Return status, headers and text of an answer; no redirection is followed."""
        more.setdefault("allow_redirects", False)
        async with self.browser.request(
            method, self.url + path, headers=headers, **more
        ) as response:
            return response.status, response.headers, await response.text()

    async def form_of(self, path: str, headers: Mapping[str, str] = HTML) -> str:
        """Return the token of the form at `path`."""
        found = FORM.search((await self.ask(path, headers=headers))[2])
        assert found is not None
        return found[1]

    async def log_in(self, token: str = TOKEN, headers: Mapping[str, str] = HTML) -> int:
        """Log in as somebody does in a browser, and return the status."""
        fields = {"csrf_token": await self.form_of("/login", headers), "token": token}
        return (await self.ask("/login", "POST", headers=headers, data=fields))[0]


@asynccontextmanager
async def running(
    token: str | None = TOKEN, tls: ssl.SSLContext | None = None, **guard: Any
) -> AsyncIterator[Admin]:
    desk = Desk()
    held = None if token is None else Secret(token)
    guard = {"token": lambda: held, **guard}
    side = AdminSide(Readiness({}), routes=desk.routes, guard=Guard(**guard), names=["admin.test"])
    jar = aiohttp.CookieJar(unsafe=True)  # those of an IP address, too
    async with (
        listening_admin(side, LOOPBACK, 0, None if tls is None else _always(tls)) as port,
        aiohttp.ClientSession(cookie_jar=jar) as browser,
    ):
        yield Admin(desk, side, f"http{'s' if tls else ''}://{LOOPBACK}:{port}", browser)


class TestWithoutAToken:
    async def test_the_loopback_is_the_operators(self) -> None:
        async with running(None) as admin:
            assert (await admin.ask("/desk/a"))[0] == 200

    @pytest.mark.parametrize("path", ["/desk/a", "/metrics", "/", "/nothing"])
    async def test_off_the_loopback_nothing_guarded_is_served_and_it_says_why(
        self, path: str
    ) -> None:
        async with running(None, is_loopback=False) as admin:
            status, _, said = await admin.ask(path)

        assert (status, "set admin_bearer_token" in said) == (403, True)

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    async def test_probes_are_answered_everywhere(self, path: str) -> None:
        async with running(None, is_loopback=False) as admin:
            assert (await admin.ask(path))[0] == 200

    @pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
    async def test_a_proxy_does_not_make_the_world_the_operator(self, name: str) -> None:
        async with running(None) as admin:
            assert (await admin.ask("/desk/a", headers={name: "for=192.0.2.1"}))[0] == 403

    async def test_another_sites_name_does_not_lead_here(self) -> None:
        async with running(None) as admin:
            assert (await admin.ask("/desk/a", headers={"Host": "evil.example"}))[0] == 421


class TestMachines:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
    @pytest.mark.parametrize("is_loopback", [True, False])
    async def test_show_the_token(self, scheme: str, is_loopback: bool) -> None:
        proxies = [ip_network("127.0.0.0/8")]
        async with running(is_loopback=is_loopback, proxies=proxies) as admin:
            headers = {"Authorization": f"{scheme} {TOKEN}"}
            assert (await admin.ask("/desk/a", headers=headers))[0] == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer " + TOKEN[:-1]},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer caf\u00e9"},
            {"Cookie": f"harvest-bridge-session={'A' * 43}"},
            {"Cookie": f"harvest-bridge-session={TOKEN}"},
        ],
    )
    @pytest.mark.parametrize("path", ["/desk/a", "/nothing"])
    async def test_are_told_to_without(self, headers: Mapping[str, str], path: str) -> None:
        """Also of a path that is not there, so that nobody learns which ones are."""
        async with running() as admin:
            status, answered, said = await admin.ask(path, headers=headers)

        assert status == 401
        assert answered["WWW-Authenticate"].startswith('Bearer realm="harvest-bridge"')
        assert TOKEN not in said

    async def test_are_asked_for_it_under_any_name(self) -> None:
        """It is the token that protects, not the name: a front has one of its own."""
        async with running() as admin:
            headers = {"Host": "bridge.monitoring.svc"}
            assert (await admin.ask("/desk/a", headers={**headers, **BEARER}))[0] == 200
            assert (await admin.ask("/desk/a", headers=headers))[0] == 401
            assert (await admin.ask("/readyz", headers=headers))[0] == 421

    async def test_need_no_form_to_change_something(self) -> None:
        """No browser sends a Bearer by itself."""
        async with running() as admin:
            answer = await admin.ask("/desk/a", "POST", headers=BEARER, data={"note": "done"})

        assert (answer[0], admin.desk.notes) == (303, ["done"])


class TestInTheClear:
    """Off the loopback, a token is taken by TLS, or where the operator says so."""

    async def test_it_is_refused_before_it_is_looked_at(self) -> None:
        async with running(is_loopback=False) as admin:
            status, _, said = await admin.ask("/desk/a", headers=BEARER)
            assert (status, "set tls_certificate" in said) == (403, True)
            assert (await admin.ask("/login", headers=HTML))[0] == 403

    async def test_a_trusted_proxy_may_pass_it_on(self) -> None:
        async with running(is_loopback=False, proxies=[ip_network("127.0.0.1/32")]) as admin:
            assert (await admin.ask("/desk/a", headers=BEARER))[0] == 200

    async def test_by_tls_cookies_are_bound_to_the_host(self, tls: Tls) -> None:
        async with running(is_loopback=False, tls=tls.server) as admin:
            trusting: dict[str, Any] = {"ssl": tls.client}
            _, headers, page = await admin.ask("/login", headers=HTML, **trusting)
            fields = {"csrf_token": FORM.search(page)[1], "token": TOKEN}  # type: ignore[index]
            held = headers["Set-Cookie"].partition(";")[0]
            sent = {**HTML, "Cookie": held}
            status, headers, _ = await admin.ask("/login", "POST", sent, data=fields, **trusting)

        assert status == 303
        name, _, attributes = headers["Set-Cookie"].partition("=")
        assert name == "__Host-harvest-bridge-session"
        assert {each.strip() for each in attributes.split(";")[1:]} == {
            "HttpOnly", "Path=/", "SameSite=Strict", "Secure",
        }  # fmt: skip

    async def test_so_they_are_behind_a_trusted_proxy_that_speaks_it(self) -> None:
        proxies = [ip_network("127.0.0.1/32")]
        async with running(is_loopback=False, proxies=proxies) as admin:
            headers = {**HTML, "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
            _, headers_of, _ = await admin.ask("/login", headers=headers)

        assert headers_of["Set-Cookie"].startswith("__Host-harvest-bridge-form=")
        assert "Secure" in headers_of["Set-Cookie"]

    async def test_handshakes_have_no_more_room_than_connections(self, tls: Tls) -> None:
        async with running(is_loopback=False, tls=tls.server) as admin:
            port = int(admin.url.rpartition(":")[2])
            silent = [await asyncio.open_connection(LOOPBACK, port) for _ in range(CONNECTIONS + 5)]
            assert (await admin.ask("/healthz", ssl=tls.client))[0] == 200
            assert await silent[0][0].read() == b""
            assert admin.side.open <= CONNECTIONS
            for _, writer in silent:
                writer.close()
            await until(lambda: admin.side.open <= 1)

    @pytest.mark.parametrize("by_tls", [False, True])
    async def test_a_flood_from_one_address_closes_nobody_elses(
        self, tls: Tls, by_tls: bool
    ) -> None:
        async with running(tls=tls.server if by_tls else None) as admin:
            port = int(admin.url.rpartition(":")[2])
            secure: dict[str, Any] = {"ssl": tls.client} if by_tls else {}
            reader, writer = await asyncio.open_connection(LOOPBACK, port, **secure)
            flood = [
                await asyncio.open_connection(LOOPBACK, port, local_addr=("127.0.0.2", 0))
                for _ in range(2 * CONNECTIONS)
            ]
            await flood[CONNECTIONS][0].read()
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await reader.read()
            for _, each in (*flood, (reader, writer)):
                each.close()

        assert answer.startswith(b"HTTP/1.1 200 ")


class TestLogIn:
    async def test_leads_on_to_what_was_asked_for(self) -> None:
        async with running() as admin:
            status, headers, _ = await admin.ask("/desk/a?x=1&y=2", headers=HTML)
            assert (status, headers["Location"]) == (303, "/login?next=/desk/a%3Fx%3D1%26y%3D2")
            async with admin.browser.get(admin.url + headers["Location"], headers=HTML) as page:
                text = await page.text()
            assert 'value="/desk/a?x=1&amp;y=2"' in text
            fields = {"csrf_token": FORM.search(text)[1], "token": TOKEN, "next": "/desk/a?x=1&y=2"}  # type: ignore[index]
            status, headers, _ = await admin.ask("/login", "POST", HTML, data=fields)
            assert (status, headers["Location"]) == (303, "/desk/a?x=1&y=2")
            assert (await admin.ask("/desk/a", headers=HTML))[0] == 200

    @pytest.mark.parametrize(
        "wanted",
        ["//evil.example/", "https://evil.example/", "/\\evil.example", "\\\\evil", "javascript:x",
         "/a\r\nSet-Cookie: x=y", "/a\tb", "", "/é"],
    )  # fmt: skip
    async def test_leads_nowhere_else(self, wanted: str) -> None:
        async with running() as admin:
            fields = {"csrf_token": await admin.form_of("/login"), "token": TOKEN, "next": wanted}
            _, headers, _ = await admin.ask("/login", "POST", HTML, data=fields)

        assert headers["Location"] == "/"
        assert "x=y" not in str(headers)

    async def test_begins_a_session_of_its_own_whatever_the_browser_held(self) -> None:
        """Who has planted a cookie before must not know the session's (session fixation)."""
        async with running() as admin:
            planted = "A" * 43
            admin.browser.cookie_jar.update_cookies({"harvest-bridge-session": planted})
            assert await admin.log_in() == 303
            held = {each.key: each.value for each in admin.browser.cookie_jar}
            assert held["harvest-bridge-session"] != planted
            stolen = {"Cookie": f"harvest-bridge-session={planted}"}
            async with aiohttp.ClientSession() as thief:
                answer = await thief.get(admin.url + "/desk/a", headers=stolen)
                assert answer.status == 401

    async def test_with_a_wrong_token_says_so_and_does_not_show_it(self) -> None:
        async with running() as admin:
            fields = {"csrf_token": await admin.form_of("/login"), "token": "<script>hush"}
            status, _, page = await admin.ask("/login", "POST", HTML, data=fields)

        assert (status, "this is not the token" in page, "hush" in page) == (401, True, False)

    async def test_ends_by_logging_out(self) -> None:
        async with running() as admin:
            await admin.log_in()
            held = {each.key: each.value for each in admin.browser.cookie_jar}
            fields = {"csrf_token": await admin.form_of("/desk/a")}
            assert (await admin.ask("/logout", "POST", HTML, data=fields))[0] == 303
            old = {"Cookie": f"harvest-bridge-session={held['harvest-bridge-session']}"}
            assert (await admin.ask("/desk/a", headers=old))[0] == 401

    async def test_ends_in_time_and_with_its_token(self) -> None:
        clock, tokens = HandClock(), [Secret(TOKEN)]
        async with running(clock=clock, token=None) as admin:
            admin.side.guard._token = lambda: tokens[-1]
            await admin.log_in()
            assert (await admin.ask("/desk/a"))[0] == 200
            tokens.append(Secret("another-token-of-the-operator"))
            assert (await admin.ask("/desk/a"))[0] == 401
            tokens.pop()
            assert (await admin.ask("/desk/a"))[0] == 200
            clock.advance(SESSION_TIME + 1)
            assert (await admin.ask("/desk/a"))[0] == 401

    async def test_sessions_are_so_many_at_most(self) -> None:
        async with running() as admin:
            await admin.log_in()
            first = {each.key: each.value for each in admin.browser.cookie_jar}
            for _ in range(SESSIONS):
                admin.browser.cookie_jar.clear()
                await admin.log_in()
            assert (await admin.ask("/desk/a"))[0] == 200
            admin.browser.cookie_jar.clear()
            old = {"Cookie": f"harvest-bridge-session={first['harvest-bridge-session']}"}
            assert (await admin.ask("/desk/a", headers=old))[0] == 401


class TestGuessing:
    async def test_is_paused_for_its_network_and_told_without_what_was_tried(self) -> None:
        clock, told = HandClock(), []
        async with running(
            clock=clock,
            proxies=[ip_network("127.0.0.1/32")],
            tell_refused=lambda network, reason: told.append((network, reason)),
        ) as admin:
            guesser, other = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
            wrong = {"Authorization": "Bearer hush-hush-hush-hush"}
            for _ in range(ATTEMPTS):
                assert (await admin.ask("/desk/a", headers={**guesser, **wrong}))[0] == 401
            status, headers, _ = await admin.ask("/desk/a", headers={**guesser, **BEARER})
            assert (status, headers["Retry-After"]) == (429, str(PAUSE))
            assert (await admin.ask("/desk/a", headers={**other, **BEARER}))[0] == 200
            clock.advance(PAUSE + 1)
            assert (await admin.ask("/desk/a", headers={**guesser, **BEARER}))[0] == 200

        assert told == [*[("192.0.2.1", "wrong-token")] * ATTEMPTS, ("192.0.2.1", "paused")]

    async def test_does_not_end_the_session_of_who_is_in(self) -> None:
        async with running() as admin:
            await admin.log_in()
            async with aiohttp.ClientSession() as guesser:
                for _ in range(ATTEMPTS):
                    wrong = {"Authorization": "Bearer hush-hush-hush-hush"}
                    await guesser.get(admin.url + "/desk/a", headers=wrong)
            assert (await admin.ask("/desk/a", headers=HTML))[0] == 200


class TestForms:
    """Another site's page can have a browser send what it likes here, cookies and all."""

    @pytest.fixture(params=[TOKEN, None], ids=["with a session", "on the loopback"])
    async def admin(self, request: pytest.FixtureRequest) -> AsyncIterator[Admin]:
        async with running(request.param) as admin:
            if request.param is not None:
                await admin.log_in()
            yield admin

    async def post(
        self, admin: Admin, headers: Mapping[str, str] | None = None, **fields: str
    ) -> int:
        fields = {"csrf_token": await admin.form_of("/desk/a"), "note": "done", **fields}
        return (await admin.ask("/desk/a", "POST", {**HTML, **(headers or {})}, data=fields))[0]

    @pytest.mark.parametrize(
        "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "same-origin", "Origin": "null"}]
    )  # fmt: skip
    async def test_of_ours_are_acted_upon(self, admin: Admin, headers: Mapping[str, str]) -> None:
        assert await self.post(admin, {"Origin": admin.url, **headers}) == 303
        assert admin.desk.notes == ["done"]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},  # another port of this machine
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://evil.example"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "null"},
        ],
    )
    async def test_of_another_site_are_not_even_with_the_token(
        self, admin: Admin, headers: Mapping[str, str]
    ) -> None:
        assert await self.post(admin, headers) == 403
        assert admin.desk.notes == []

    @pytest.mark.parametrize("token", ["", "0" * 64, "é"])
    async def test_without_the_forms_token_are_not(self, admin: Admin, token: str) -> None:
        assert await self.post(admin, csrf_token=token) == 403
        assert admin.desk.notes == []

    async def test_with_another_browsers_token_are_not(self, admin: Admin) -> None:
        async with aiohttp.ClientSession() as other:
            sent = {"Cookie": f"harvest-bridge-form={'A' * 43}", **HTML, **BEARER}
            page = await (await other.get(admin.url + "/desk/a", headers=sent)).text()
        assert await self.post(admin, csrf_token=FORM.search(page)[1]) == 403  # type: ignore[index]

    @pytest.mark.parametrize(
        "content_type",
        ["text/plain", "multipart/form-data; boundary=x", "application/json", "", "x/y; charset=utf-8"],
    )  # fmt: skip
    async def test_of_another_type_are_not_read(self, admin: Admin, content_type: str) -> None:
        body = f"csrf_token={await admin.form_of('/desk/a')}&note=done"
        headers = {**HTML, "Content-Type": content_type}
        status, _, _ = await admin.ask("/desk/a", "POST", headers, data=body)

        assert (status, admin.desk.notes) == (415, [])

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param(b"note=" + b"a" * FORM_LIMITS.size, 413, id="long"),
            pytest.param(b"&".join([b"a=b"] * 101), 400, id="many fields"),
            pytest.param(b"note=\xff\xfe", 400, id="no ASCII"),
        ],
    )
    async def test_that_are_too_much_are_not_read(
        self, admin: Admin, body: bytes, status: int
    ) -> None:
        headers = {**HTML, "Content-Type": "application/x-www-form-urlencoded"}
        assert (await admin.ask("/desk/a", "POST", headers, data=body))[0] == status

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
    async def test_are_the_only_way_to_change_something(self, admin: Admin, method: str) -> None:
        status, headers, _ = await admin.ask("/desk/a", method)

        assert (status, headers["Allow"]) == (405, "GET, HEAD, POST")


class TestAnswers:
    @pytest.mark.parametrize("path", ["/desk/a", "/healthz", "/nothing", "/login"])
    async def test_let_nothing_of_another_site_in(self, path: str) -> None:
        async with running(None) as admin:
            _, headers, _ = await admin.ask(path)

        policy = dict(
            each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"].startswith("'self'")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"

    async def test_have_a_nonce_of_their_own(self) -> None:
        async with running() as admin:
            answers = [await admin.ask("/login", headers=HTML) for _ in range(2)]

        nonces = [re.search(r'<style nonce="([^"]+)"', page)[1] for _, _, page in answers]  # type: ignore[index]
        assert nonces[0] != nonces[1]
        for nonce, (_, headers, _) in zip(nonces, answers, strict=True):
            assert f"'nonce-{nonce}'" in headers["Content-Security-Policy"]

    @pytest.mark.parametrize(
        ("path", "method", "status"), [("/<script>", "GET", 404), ("/desk/a", "PUT", 405)]
    )
    async def test_that_refuse_are_pages_to_browsers_and_json_to_machines(
        self, path: str, method: str, status: int
    ) -> None:
        async with running(None) as admin:
            for headers, content_type in ((HTML, "text/html"), ({}, "application/json")):
                answer = await admin.ask(path, method, headers)
                assert (answer[0], answer[1]["Content-Type"].partition(";")[0]) == (
                    status,
                    content_type,
                )
                assert "<script>" not in answer[2]

    async def test_to_head_have_no_body(self) -> None:
        async with running(None) as admin:
            assert (await admin.ask("/desk/a", "HEAD"))[::2] == (200, "")

    async def test_of_a_page_that_fails_say_nothing_of_why(self) -> None:
        async with running(None) as admin:
            fields = {"csrf_token": await admin.form_of("/desk/a"), "token": "hush"}
            status, _, said = await admin.ask("/desk/a", "POST", data=fields)  # there is no note

        assert (status, said) == (500, '{"status": "This page failed."}')

    @pytest.mark.parametrize(
        "sent", [b"BREW / HTTP/1.1\r\n\r\n", b"hush hush\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
    )
    async def test_to_what_is_no_http_quote_nothing_of_it(self, sent: bytes) -> None:
        async with running() as admin:
            port = int(admin.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(sent)
            answer = await reader.read()
            writer.close()

        assert answer.endswith(b'{"status": "This is not well-formed HTTP/1.1."}')
        assert b"nosniff" in answer


class TestKeptConnections:
    async def test_serve_more_of_what_is_guarded_up_to_a_number(self) -> None:
        async with running(None) as admin:
            reader, writer = await asyncio.open_connection(
                LOOPBACK, int(admin.url.rpartition(":")[2])
            )
            served = 0
            while not reader.at_eof():
                writer.write(b"HEAD /desk/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                served += 1
                if b"Connection: close" in head:
                    break
            assert await reader.read() == b""
            writer.close()

        assert served == REQUESTS

    async def test_give_the_next_request_only_so_long(self) -> None:
        async with running(None) as admin:
            leaps = Leaps()
            port = int(admin.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            request = b"HEAD /desk/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for _ in range(3):  # an answer gives it new time
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")
                leaps.ahead(LIFETIME - 1)
            writer.write(request[:-5])
            leaps.ahead(LIFETIME)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            await until(lambda: not admin.side.open)
            writer.close()

    async def test_are_not_kept_for_who_was_refused(self) -> None:
        async with running() as admin:
            _, headers, _ = await admin.ask("/desk/a")

        assert headers["Connection"] == "close"

    async def test_make_room_when_they_wait(self) -> None:
        async with running(None) as admin:
            port = int(admin.url.rpartition(":")[2])
            kept = await asyncio.open_connection(LOOPBACK, port)
            kept[1].write(b"HEAD /desk/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 OK" in await kept[0].readuntil(b"\r\n\r\n")
            others = [await asyncio.open_connection(LOOPBACK, port) for _ in range(CONNECTIONS)]
            assert await kept[0].read() == b""
            for _, writer in (kept, *others):
                writer.close()


class TestFiles:
    @pytest.fixture
    async def url(self, tmp_path: Path) -> AsyncIterator[str]:
        folder = tmp_path / "static"
        folder.mkdir()
        (folder / "style.css").write_text("p { color: red }")
        (tmp_path / "secret.css").write_text("hush")
        side = AdminSide(Readiness({}), routes=static_routes("/static", folder))
        async with listening_admin(side, LOOPBACK, 0) as port:
            yield f"http://{LOOPBACK}:{port}"

    async def test_are_asked_for_again_and_sent_once(self, url: str) -> None:
        async with aiohttp.ClientSession() as browser:
            first = await browser.get(url + "/static/style.css")
            kept = {"If-None-Match": first.headers["ETag"]}
            again = await browser.get(url + "/static/style.css", headers=kept)

            assert (first.status, await first.text(), first.content_type) == (
                200,
                "p { color: red }",
                "text/css",
            )
            assert first.headers["Cache-Control"] == "private, no-cache"
            assert (again.status, await again.read()) == (304, b"")

    @pytest.mark.parametrize(
        "path",
        ["/static/../secret.css", "/static/%2e%2e/secret.css", "/static/..%2fsecret.css",
         "/static/%2e%2e%2fsecret.css", "/static//etc/passwd", "/static/", "/static/style.css%00",
         "/static/..\\secret.css"],
    )  # fmt: skip
    async def test_are_those_of_the_folder_only(self, url: str, path: str) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, int(url.rpartition(":")[2]))
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()

        assert answer.split(b" ", 2)[1] in {b"404", b"400"}
        assert b"hush" not in answer
