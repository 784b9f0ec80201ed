"""`harvest-bridge verify`, end to end: v1 is the sandbox's, v2 too, and a real bridge is asked."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from lxml import etree
from playwright.async_api import HttpCredentials, async_playwright
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.record.log.capture import Mode
from bridge.sandbox.app import create_sandbox
from bridge.sandbox.seeds import SANDBOX_TOKEN, USERS, V1_PASSWORDS
from bridge.sandbox.v1.app import create_v1
from bridge.verifying.reads import MEANINGS, Skipped
from tests.support.captured import capturing
from tests.support.dashboards import FLAGS
from tests.support.logged import Logged, logging
from tests.support.recordings import Call, chromium, document, mitmproxy, record
from tests.support.running import LOOPBACK, running_app, running_service

INVOICES = ("/invoice/1420", "/invoices/1420", "/invoice/1421", "/invoices/77")
READS = (
    "/account/who_am_i",
    "/account/rate_limit_status",
    *(f"{each}/{what}" for each in INVOICES for what in ("messages", "payments")),
    *(f"{each}/messages/409" for each in INVOICES),
    "/invoice/1420/payments/45",
    "/invoices/1420/payments/46.xml",
)
OTHERS = ("/clients", "/projects", "/favicon.ico")
HOST = "api-examples.harvestapp.com"
PACE = ("--pace", "1000", "--credential", "env:VERIFY_AS")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "\x1b[2J<b>\u202e"


class V1(NamedTuple):
    """The sandbox's v1, as Bob."""

    url: str
    session: aiohttp.ClientSession

    async def recorded(self, *targets: str, method: str = "GET") -> list[Call]:
        """Return what it answers, as it would be recorded."""
        return [await self._recorded(target, method) for target in targets]

    async def _recorded(self, target: str, method: str) -> Call:
        async with self.session.request(method, self.url + target) as answer:
            type_ = answer.headers.get("Content-Type", "")
            body, origin = await answer.read(), f"https://{HOST}"
            return Call(target, body, answer.status, method, {}, type_, origin)

    async def plant(self, **rule: Any) -> None:
        async with self.session.post(f"{self.url}/sandbox/faults", json=rule) as answer:
            assert answer.status < 300, await answer.text()

    async def planted(self) -> list[Any]:
        async with self.session.get(f"{self.url}/sandbox/differences") as answer:
            told: list[Any] = (await answer.json())["planted"]
            return told


class Stage(NamedTuple):
    v1: V1
    bridge: str
    """Its URL."""


@pytest.fixture(autouse=True)
def log() -> Iterator[Logged]:
    """What a bridge here says, which would else be taken for what the command does."""
    with logging() as logged:
        yield logged


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("VERIFY_AS", f"any@example.com:{SANDBOX_TOKEN}")
    sandbox = create_sandbox()
    bob = aiohttp.encode_basic_auth(USERS[SANDBOX_TOKEN].email, V1_PASSWORDS[SANDBOX_TOKEN])
    headers = {"Authorization": bob, "Accept": "application/xml"}
    async with (
        running_app(sandbox) as v2,
        running_app(create_v1(sandbox)) as v1,
        running_service(f"{v2}/v2", account_id=1000) as (service, _),
        aiohttp.ClientSession(headers=headers) as session,
    ):
        yield Stage(V1(v1, session), f"http://{LOOPBACK}:{service.port}")


async def verify(*arguments: object) -> Result:
    """Run the command, while servers run here."""
    spelled = ["verify", *map(str, arguments)]
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, spelled))


def last_line(result: Result) -> str:
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("by", [chromium, mitmproxy])
async def test_a_recording_of_v1_is_what_the_bridge_answers(
    stage: Stage, tmp_path: Path, by: Any
) -> None:
    calls = await stage.v1.recorded(*READS, *OTHERS)
    calls += await stage.v1.recorded("/invoice/1420/messages", method="HEAD")
    calls += [Call("/invoices/1420/payments", "<payment/>", 201, "POST")]
    file = record(tmp_path / "v1.har", calls, by)

    result = await verify(file, "--against", stage.bridge, *PACE)
    count = len(READS) + 1
    assert (result.exit_code, last_line(result)) == (0, f"{count} of {count} equal")
    assert "different" not in result.stdout
    assert "host-called\t1\t" in result.stdout
    for call in ("POST /invoices/{…}/payments\t1\t", "GET /clients\t1\t", "others\t1\t"):
        assert call in result.stdout


async def test_every_planted_difference_is_found_and_none_else(
    stage: Stage, tmp_path: Path
) -> None:
    await stage.v1.plant(fault="other-value", element="body", path=".*/invoice/1420/messages/409")
    await stage.v1.plant(fault="other-type", element="amount", path="/invoice/1420/payments/45")
    await stage.v1.plant(fault="missing-element", element="notes", path="/invoices/1420/payments")
    await stage.v1.plant(fault="extra-element", element="email", path="/account/who_am_i")
    await stage.v1.plant(
        fault="swapped-elements",
        element="invoice-message",
        number=2,
        path="/invoices/1420/messages",
    )
    file = record(tmp_path / "v1.har", await stage.v1.recorded(*READS))
    report = tmp_path / "junit.xml"
    planted = {each["path"] for each in await stage.v1.planted()}
    assert len(planted) == 5

    result = await verify(file, "--against", stage.bridge, *PACE, "--json", "--junit", report)
    told = json.loads(result.stdout)
    different = [call for call in told["calls"] if call["result"] == "different"]
    assert (result.exit_code, told["different"], told["incomparable"]) == (1, 5, 0)
    assert {call["target"] for call in different} == planted
    assert {(each["kind"], each["path"]) for each in told["differ"]} == {
        ("value", "/invoice-message/body"),
        ("type", "/payment/amount/@type"),
        ("added", "/payments/payment/notes"),
        ("missing", "/hash/user/planted"),
        ("order", "/invoice-message/order()"),
    }
    (value,) = (each for call in different for each in call["differences"] if each["v1"] == "planted"
                and each["kind"] == "value")  # fmt: skip
    assert value["path"] == "/invoice-message/body"
    assert all(call["request_id"] for call in different)
    suite = etree.parse(report).getroot()[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == [
        str(len(READS)),
        "5",
        "0",
    ]


async def test_what_v1_answers_again_is_never_taken_for_the_bridges(
    stage: Stage, tmp_path: Path
) -> None:
    """Else all would be equal at a bridge that only observes."""
    calls = await stage.v1.recorded("/invoice/1420/messages/409", "/invoice/1420/payments")
    bob = f"{USERS[SANDBOX_TOKEN].email}:{V1_PASSWORDS[SANDBOX_TOKEN]}"
    settings = {"mode": "observe", "legacy_origin": stage.v1.url, "auth": frozenset[str]()}
    async with running_service("http://127.0.0.1:9/v2", **settings) as (service, _):
        observing = f"http://{LOOPBACK}:{service.port}"
        file = record(tmp_path / "v1.har", calls)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VERIFY_AS", bob)
            result = await verify(file, "--against", observing, *PACE)

    assert (result.exit_code, last_line(result)) == (2, "0 of 0 equal")
    assert f"\t{MEANINGS[Skipped.PASSED_THROUGH]}\n" in result.stdout


async def test_a_difference_is_told_for_people_to_read(stage: Stage, tmp_path: Path) -> None:
    (call,) = await stage.v1.recorded("/invoice/1420/messages/409")
    other = call._replace(body=call.octets.replace(b"My Name</sent-by>", b"Somebody</sent-by>"))
    file = record(tmp_path / "v1.har", [other])

    result = await verify(file, "--against", stage.bridge, *PACE)
    assert result.stdout.splitlines()[0].startswith(
        f"different: GET /invoice/1420/messages/409 ({HOST}; 2026-11-01T10:00:00.000000+00:00; "
        f"{file}, entry 0; request id "
    )
    assert result.stdout.splitlines()[1:4] == [
        "  value /invoice-message/sent-by",
        '      v1      "Somebody"',
        '      bridge  "My Name"',
    ]
    assert last_line(result) == "0 of 1 equal; 1 differ at …/sent-by"

    without = await verify(file, "--against", stage.bridge, *PACE, "--no-values")
    assert "Somebody" not in without.stdout
    ignoring = await verify(file, "--against", stage.bridge, *PACE, "--ignore", "//sent-by")
    assert (ignoring.exit_code, last_line(ignoring)) == (0, "1 of 1 equal")


async def test_nothing_that_a_recording_says_does_anything_to_a_terminal(
    stage: Stage, tmp_path: Path
) -> None:
    (call,) = await stage.v1.recorded("/invoice/1420/messages/409")
    body = call.octets.decode().replace("My Name</sent-by>", "\x9b31m\u202e</sent-by>")
    entry = mitmproxy(call._replace(body=body))
    entry["startedDateTime"] = HOSTILE
    entry["request"]["url"] = f"https://{HOSTILE}/invoice/1420/messages/409?q={HOSTILE}"
    file = tmp_path / "v1.har"
    file.write_text(json.dumps(document([entry])))

    for more in ((), ("--json",)):
        result = await verify(file, "--against", stage.bridge, *PACE, *more)
        told = result.stdout + result.stderr
        assert not set(told) & {"\x1b", "\x9b", "\u202e"}


async def test_a_recording_without_credentials_compares_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    file = record(tmp_path / "v1.har", await stage.v1.recorded(*READS[2:5]), chromium)

    result = await verify(file, "--against", stage.bridge)
    assert result.exit_code == 2
    assert "the recording has no credential for it, and none is given" in result.stdout
    assert result.stderr.splitlines()[-1] == "harvest-bridge: there is nothing to compare"


async def test_a_bridge_that_refuses_the_credential_answers_otherwise(
    stage: Stage, tmp_path: Path
) -> None:
    file = record(tmp_path / "v1.har", await stage.v1.recorded("/invoice/1420/messages"))

    result = await verify(file, "--against", stage.bridge)  # as Bob, whose password is v1's
    assert (result.exit_code, last_line(result)) == (1, "0 of 1 equal; 1 differ at /")
    assert "status /" in result.stdout


def exported(database: Path, file: Path) -> Path:
    command = ["export", "--har", "--database", str(database)]
    file.write_text(CliRunner().invoke(app, command).stdout)
    return file


@pytest.mark.parametrize("raw", [True, False])
async def test_a_capture_is_verified_against_its_own_v2_without_any_network(
    stage: Stage, tmp_path: Path, log: Logged, raw: bool
) -> None:
    database = tmp_path / "log.sqlite"
    async with (
        running_app(create_sandbox()) as v2,
        capturing(f"{v2}/v2", database, log, Mode.ALL, raw=raw) as (_, client),
    ):
        for target in READS:
            await client.get(target)
    file = exported(database, tmp_path / "capture.har")

    result = await verify(file, "--v2", file)
    assert (result.exit_code, last_line(result)) == (0, f"{len(READS)} of {len(READS)} equal")
    assert ("stand-ins\t" in result.stdout) is not raw
    if raw:
        file.write_text(file.read_text().replace("<sent-by>My Name", "<sent-by>Somebody"))
        result = await verify(file, "--v2", file)
        assert result.exit_code == 1
        assert "differ at …/sent-by" in last_line(result)


async def test_a_capture_with_stand_ins_is_verified_against_a_bridge(
    stage: Stage, tmp_path: Path, log: Logged
) -> None:
    database = tmp_path / "log.sqlite"
    async with (
        running_app(create_sandbox()) as v2,
        capturing(f"{v2}/v2", database, log, Mode.ALL) as (_, client),
    ):
        for target in READS:
            await client.get(target)
    file = exported(database, tmp_path / "capture.har")

    result = await verify(file, "--against", stage.bridge, *PACE)
    assert (result.exit_code, last_line(result)) == (0, f"{len(READS)} of {len(READS)} equal")
    file.write_text(file.read_text().replace("<sent-by>Xx", "<sent-by>XX"))
    result = await verify(file, "--against", stage.bridge, *PACE)
    assert result.exit_code == 1
    assert "with stand-ins" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "one of --against and --v2 has to be given"),
        (["--against", "http://a", "--v2", "{file}"], "one of --against and --v2 has to be given"),
        (["--against", "acme"], "--against: must be a URL such as http://127.0.0.1:8080"),
        (["--against", "http://[::1"], "--against: must be a URL such as http://127.0.0.1:8080"),
        (["--v2", "{file}", "--credential", "ask"], "--credential goes with --against"),
        (["--v2", "{file}"], "the recording of v2 has no call to it"),
        (["--against", "http://a", "--dialect", "final"],
         "--dialect goes with --v2: a running bridge has its own"),
        (["--v2", "{file}", "--ignore", "notes"], "'notes' is no path such as /payments/payment"),
        (["--v2", "/none.har"], "/none.har: No such file or directory"),
        (["--against", "http://a", "--credential", "s3cret"],
         "--credential: must be env:NAME, file:PATH or ask"),
        (["--against", "http://a", "--credential", "env:NONE_SUCH"],
         "--credential: the environment variable NONE_SUCH is not set, or empty"),
        (["--against", "http://127.0.0.1:1"], "ClientConnectorError"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_command_line_is_one_line(
    tmp_path: Path, arguments: Sequence[str], complaint: str
) -> None:
    file = record(tmp_path / "v1.har", [Call("/invoices/1/payments", "<payments/>")])

    result = await verify(file, *(each.format(file=file) for each in arguments))
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"harvest-bridge: {complaint}")
    assert "s3cret" not in result.stderr


async def test_who_is_no_bridge_gets_no_second_password(stage: Stage, tmp_path: Path) -> None:
    calls = [Call(f"/invoices/{number}/payments", "<payments/>") for number in (1, 2)]
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="<payments/>")

    other = web.Application()
    other.router.add_get("/{path:.*}", answer)
    async with running_app(other) as url:
        result = await verify(record(tmp_path / "v1.har", calls), "--against", url)

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("harvest-bridge: who answers there is no")
    assert len(asked) == 1


async def test_a_credential_can_be_asked_for(stage: Stage, tmp_path: Path) -> None:
    file = record(tmp_path / "v1.har", await stage.v1.recorded(*READS[:3]), chromium)
    command = ["verify", str(file), "--against", stage.bridge, "--credential", "ask"]

    result = await asyncio.to_thread(
        lambda: CliRunner().invoke(app, command, input=f"{SANDBOX_TOKEN}\n")
    )
    assert (result.exit_code, last_line(result)) == (0, "3 of 3 equal")
    assert SANDBOX_TOKEN not in result.stdout + result.stderr


async def test_a_file_with_a_credential_is_nobody_else_s_to_read(tmp_path: Path) -> None:
    file = record(tmp_path / "v1.har", [Call("/invoices/1/payments", "<payments/>")])
    secret = tmp_path / "secret"
    secret.write_text("jane:s3cret\n")
    secret.chmod(0o644)

    result = await verify(file, "--against", "http://127.0.0.1:1", "--credential", f"file:{secret}")
    assert result.exit_code == 2
    assert "chmod 600" in result.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt install chromium")
async def test_a_recording_of_a_real_browser_is_one(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "browser.har"
    bob = HttpCredentials(username=USERS[SANDBOX_TOKEN].email, password=V1_PASSWORDS[SANDBOX_TOKEN])
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = await browser.new_context(record_har_path=file, http_credentials=bob)
        page = await context.new_page()
        for target in ("/invoice/1420/messages", "/invoices/1420/payments"):
            await page.goto(stage.v1.url + target)
        await context.close()
        await browser.close()

    result = await verify(file, "--against", stage.bridge, *PACE)
    assert (result.exit_code, last_line(result)) == (0, "2 of 2 equal")
