"""The command `harvest-bridge`, as a process of its own wherever it has to start or stop."""

import asyncio
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from lxml import etree
from typer.testing import CliRunner
from yarl import URL

from bridge import __version__
from bridge.cli import COMMANDS, app
from bridge.sandbox.app import SANDBOX_ACCOUNT_ID, SANDBOX_LIMITED_TOKEN, SANDBOX_TOKEN
from bridge.settings import PATHS, PREFIX, Settings
from tests.support.legacy import Answer, LegacyClient, assert_valid
from tests.support.payments import payment
from tests.support.running import LOOPBACK
from tests.support.upstream import message, page

COMMAND = (sys.executable, "-m", "bridge")
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
PATIENCE = 60
"""Seconds until a process counts as hanging."""


@pytest.fixture
def needed(tmp_path: Path) -> tuple[str, ...]:
    """What `serve` cannot do without, and files of its own."""
    journal, database = str(tmp_path / "journal.sqlite"), str(tmp_path / "log.sqlite")
    upstream = f"--upstream=http://{LOOPBACK}:1/v2"
    told = ("--account-id=1000", "--auth=bearer", "--contact=ops@acme.test", upstream)
    return (*told, "--journal", journal, "--database", database)


def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=given,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=PATIENCE,
        check=False,
    )


def run_here(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command in this process, which is a second faster."""
    done = CliRunner().invoke(app, arguments, input=given, catch_exceptions=False)
    return subprocess.CompletedProcess(
        arguments, done.exit_code, done.stdout_bytes, done.stderr_bytes
    )


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command while a test does something with it."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def listening_port(process: asyncio.subprocess.Process) -> int:
    """Read the log up to the line that says where it listens."""
    assert process.stderr is not None
    async for line in process.stderr:
        told = json.loads(line)
        if told["event"] == "listening":
            port: int = told["port"]
            return port
    raise AssertionError("it ended before it listened")


async def first_line(*command: str) -> str:
    """Start a server, and return the first line that it logs."""
    async with running(*command, "--port", "0") as process:
        assert process.stderr is not None
        return (await process.stderr.readline()).decode()


@pytest.mark.parametrize("command", ["serve", "sandbox"])
async def test_the_log_has_the_form_that_it_is_told_to_have(
    command: str, needed: tuple[str, ...]
) -> None:
    given = (command, *needed, "--admin-port", "0") if command == "serve" else (command,)

    assert (await first_line(*given)).startswith('{"')
    assert re.match(
        r"[0-9:]{8} \[info +] listening +", await first_line(*given, "--log-format=console")
    )


async def told_to_stop(
    process: asyncio.subprocess.Process, how: signal.Signals = signal.SIGTERM
) -> tuple[int | None, bytes]:
    """Stop the process and return its exit status and what was left of its log."""
    process.send_signal(how)
    _, log = await process.communicate()
    return process.returncode, log


def the_line(told: bytes) -> str:
    """The only line of what the command told its user."""
    (line,) = told.decode().splitlines()
    assert line.startswith("harvest-bridge: ")
    return line.removeprefix("harvest-bridge: ")


def test_version() -> None:
    done = run_here("--version")

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"harvest-bridge {__version__}\n".encode(),
        b"",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_of_itself_what_the_list_says_of_it(command: str) -> None:
    assert COMMANDS[command][1] in " ".join(run_here(command, "--help").stdout.decode().split())


def imported_by(*arguments: str) -> set[str]:
    """What a command has imported by its end, in a process of its own."""
    code = f"""
import sys
from contextlib import suppress
from bridge.cli import app
with suppress(SystemExit):
    app({[*arguments]})
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=PATIENCE
    )
    return set(done.stderr.decode().splitlines()[-1].split())


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_the_list_of_commands_imports_no_part_of_the_bridge(flag: str) -> None:
    imported = imported_by(flag)

    assert {name for name in imported if name.startswith("bridge.")} == {"bridge.cli"}
    assert imported.isdisjoint({"aiohttp", "asyncio", "lxml", "msgspec", "pydantic", "rich"})


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["serve", "--help"], {"aiohttp", "lxml", "rich", "sqlalchemy", "structlog"}),
        (["explain", "GET", "/invoice/7/messages"], {"aiohttp", "alembic", "rich", "sqlalchemy"}),
        (["calls", "--database", "no-such-log"], {"aiohttp", "alembic"}),
        (["plan", "x", "--database", "no-such-log"], {"aiohttp", "alembic"}),
    ],
    ids=["serve", "explain", "calls", "plan"],
)
def test_a_command_imports_nothing_big_that_it_does_not_need(
    arguments: list[str], unneeded: set[str]
) -> None:
    assert not unneeded & imported_by(*arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--foo"], "No such option: --foo", id="an-option-of-none"),
        pytest.param(["serve", "--prot=1"], "No such option: --prot", id="an-option"),
        pytest.param(["demo", "--port=abc"], "Invalid value for '--port'", id="a-value"),
        pytest.param(["translate"], "Missing option '--invoice-id'", id="what-is-missing"),
        pytest.param(["credentials", "ad"], "No such command 'ad'", id="a-command-of-a-group"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], told: str) -> None:
    done = run_here(*arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert the_line(done.stderr).startswith(told)


def test_a_command_line_without_a_command_gets_the_help() -> None:
    assert b"COMMAND" in b"".join((run_here().stdout, run_here().stderr))


def test_an_unknown_command_is_told() -> None:
    done = run_here("serv")

    assert done.returncode == 2
    assert b"Did you mean 'serve'?" in done.stderr


class TestTranslate:
    @pytest.mark.parametrize(
        ("given", "dialect", "schema"),
        [
            pytest.param(page(message(id=2), message(id=1)), "classic", "list", id="classic-page"),
            pytest.param(page(message(id=2), message(id=1)), "final", "list", id="final-page"),
            pytest.param(message(id=1), "classic", "item", id="classic-message"),
            pytest.param(message(id=1), "final", "item", id="final-message"),
        ],
    )
    def test_it_writes_what_the_bridge_would(
        self, given: dict[str, Any], dialect: str, schema: str
    ) -> None:
        done = run_here(
            "translate", "--invoice-id", "7", "--dialect", dialect, given=json.dumps(given).encode()
        )

        count = 2 if schema == "list" else 1
        assert done.returncode == 0
        assert done.stderr.decode() == f"note: field-lost: attach_pdf ({count})\n"
        assert_valid(done.stdout, f"invoice-messages/{dialect}-{schema}")
        ids = [element.text for element in etree.fromstring(done.stdout).iter("invoice-id")]
        assert ids == ["7"] * count

    def test_notes_go_to_standard_error_and_classic_is_the_default(self) -> None:
        given = message(body="a\u0001b", subject="not in classic", recipients=[{"name": "Jane"}])

        done = run_here("translate", "--invoice-id", "7", given=json.dumps(given).encode())

        assert done.returncode == 0
        assert_valid(done.stdout, "invoice-messages/classic-item")
        assert sorted(done.stderr.decode().splitlines()) == [
            "note: character-replaced: body (1)",
            "note: field-lost: attach_pdf (1)",
            "note: recipient-dropped: full-recipient-list (1)",
        ]

    def test_it_is_a_filter(self) -> None:
        given = json.dumps(page(message())).encode()

        assert (
            run("translate", "--invoice-id", "7", given=given).stdout
            == run_here("translate", "--invoice-id", "7", given=given).stdout
            != b""
        )

    @pytest.mark.parametrize("form", ["page", "object"])
    def test_a_payment_is_told_from_a_message(self, form: str) -> None:
        listed = {"invoice_payments": [payment()], "links": {"next": None}}
        given = listed if form == "page" else payment()
        flags = () if form == "page" else ("--resource", "invoice-payments")

        done = run_here("translate", "--invoice-id", "7", *flags, given=json.dumps(given).encode())

        assert done.returncode == 0
        assert done.stderr == b"note: field-lost: payment_gateway.name (1)\n"
        schema = "list" if form == "page" else "item"
        assert_valid(done.stdout, f"invoice-payments/classic-{schema}")

    def test_a_resource_that_there_is_not(self) -> None:
        done = run_here("translate", "--invoice-id", "7", "--resource", "expenses")

        assert done.returncode == 2
        assert the_line(done.stderr) == "--resource: must be invoice-messages or invoice-payments"

    def test_broken_json_ends_it_with_one_line(self) -> None:
        done = run("translate", "--invoice-id", "7", given=b'{"id": 1, "body": "s3cret')

        assert (done.returncode, done.stdout) == (1, b"")
        assert the_line(done.stderr) == "v2 sent no JSON: Input data was truncated"

    @pytest.mark.parametrize(
        "given",
        [
            pytest.param(b'"s3cret"', id="no-object"),
            pytest.param(json.dumps(message(id="s3cret")).encode(), id="wrong-message"),
            pytest.param(b'{"id": 1, "body": "s3cret \xff"}', id="invalid-utf-8"),
            pytest.param(
                json.dumps(page(message(id=1), message(id="s3cret"))).encode(),
                id="wrong-message-on-a-page",
            ),
        ],
    )
    def test_what_cannot_be_translated_is_one_line_and_nothing_else(self, given: bytes) -> None:
        done = run_here("translate", "--invoice-id", "7", given=given)

        assert done.returncode == 1
        assert "s3cret" not in the_line(done.stderr)
        assert done.stdout == b""


ANYTHING_GOES = {"brownout_message", *PATHS, "admin_host", "database", "host"}
"""Settings that no text is wrong for, before it is put to use."""


class TestServe:
    def test_every_wrong_setting_is_told_on_one_line(self, tmp_path: Path) -> None:
        """A flag that makes no sense for each of them, and a key that is none, in the file."""
        config = tmp_path / "bridge.toml"
        config.write_text("prot = 8080\n")
        settings = [name for name in Settings.model_fields if name not in ANYTHING_GOES]
        flags = [f"--{name.replace('_', '-')}=(" for name in settings]

        done = run("serve", "--config", str(config), *flags)

        assert done.returncode == 2
        complaints = the_line(done.stderr).split("; ")
        wrong = sorted([*settings, str(config)])
        assert sorted(each.partition(":")[0] for each in complaints) == wrong

    @pytest.mark.parametrize(
        ("setting", "also"),
        [
            ("book", ()),
            ("journal", ()),
            ("tls_key", ("--tls-certificate=/missing.d/server.pem",)),
            ("config", ()),
        ],
    )
    def test_a_file_that_is_missing_is_told_with_its_setting(
        self, setting: str, also: tuple[str, ...], needed: tuple[str, ...]
    ) -> None:
        flag = f"--{setting.replace('_', '-')}"

        done = run_here("serve", *needed, *also, f"{flag}=/missing.d/file")

        assert (done.returncode, done.stdout) == (2, b"")
        line = the_line(done.stderr)
        assert line.startswith(f"{setting}: ")
        assert "/missing.d" in line
        assert f"({flag}, " in line

    def test_a_port_in_use_is_one_line(self, needed: tuple[str, ...]) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = taken.getsockname()[1]

            done = run("serve", *needed, "--port", str(port), "--admin-port", "0")

        assert done.returncode == 2
        assert the_line(done.stderr).startswith(f"port: cannot listen on {LOOPBACK}:{port}: ")

    @pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
    async def test_it_needs_no_standard_streams(
        self, needed: tuple[str, ...], closed: str, unused_tcp_port: int
    ) -> None:
        """The number of a closed one would go to a socket, and the log's lines with it."""
        flags = (*needed, "--port", str(unused_tcp_port), "--admin-port", "0")
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, "serve", *flags,
            env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            answer = await answered(unused_tcp_port)
            process.terminate()
            printed, _ = await process.communicate()

        assert (answer.status, process.returncode, printed) == (401, 0, b"")

    async def test_a_standard_error_that_nobody_reads_holds_nothing_up(
        self, needed: tuple[str, ...], unused_tcp_port_factory: Callable[[], int]
    ) -> None:
        """A pipe holds 143 log lines of the usual length; this one, the least that there is."""
        port, admin_port = unused_tcp_port_factory(), unused_tcp_port_factory()
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "serve", *needed, f"--port={port}", f"--admin-port={admin_port}",
            env=ENVIRONMENT, stderr=writer,
        )  # fmt: skip
        os.close(writer)
        try:
            async with asyncio.timeout(PATIENCE):
                assert {(await answered(port)).status for _ in range(50)} == {401}
                async with aiohttp.ClientSession(f"http://{LOOPBACK}:{admin_port}") as admin:
                    assert (await admin.get("/healthz")).status == 200
                    told = await (await admin.get("/readyz")).json()
                    assert told["warnings"]["log"].startswith("nobody reads it: ")
                process.terminate()
                assert await process.wait() == 0
        finally:
            os.close(reader)
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def test_it_says_at_once_that_its_upstream_is_no_v2(
        self, needed: tuple[str, ...], sandbox: str
    ) -> None:
        wrong = sandbox.removesuffix("/v2")
        ports = ("--port", "0", "--admin-port", "0")
        async with running("serve", *needed, *ports, "--upstream", wrong) as process:
            assert process.stderr is not None
            async for line in process.stderr:
                told = json.loads(line)
                if told["event"] == "not_ready":
                    break
            status, _ = await told_to_stop(process)

        assert told["checks"]["upstream"].startswith(f"no v2: {wrong}/users/me answered 404 ")
        assert status == 0

    async def test_at_sighup_it_reads_its_file_again(
        self, needed: tuple[str, ...], sandbox: str, tmp_path: Path
    ) -> None:
        config = tmp_path / "bridge.toml"
        config.write_text("")
        flags = ("--port=0", "--admin-port=0", f"--upstream={sandbox}", f"--config={config}")
        async with running("serve", *needed, *flags) as process:
            assert process.stderr is not None
            await listening_port(process)
            config.write_text("sunset = 2027-06-30\nconnections = 5\n")
            process.send_signal(signal.SIGHUP)
            async for line in process.stderr:
                told = json.loads(line)
                if told["event"] == "reloaded":
                    break
            status, _ = await told_to_stop(process)

        assert told["changed"] == {"sunset": {"from": None, "to": "2027-06-30"}}
        assert (told["needs_restart"], status) == (["connections"], 0)

    async def test_it_answers_until_it_is_interrupted(
        self, needed: tuple[str, ...], sandbox: str
    ) -> None:
        ports = ("--port", "0", "--admin-port", "0")
        async with running("serve", *needed, *ports, "--upstream", sandbox) as process:
            port = await listening_port(process)
            async with LegacyClient(LOOPBACK, port) as client:
                answer = await client.get("/invoice/1420/messages", authorization=None)

            status, log = await told_to_stop(process, signal.SIGINT)

        assert (answer.status, status) == (401, 0)
        lines = [json.loads(line) for line in log.splitlines()]
        assert [(line["event"], line.get("what")) for line in lines] == [
            ("listening", "admin"),
            ("legacy_call", None),
            ("stopping", None),
            ("stopped", None),
        ]


async def answered(port: int) -> Answer:
    """Call until there is somebody to answer, without a credential."""
    while True:
        with suppress(aiohttp.ClientConnectorError):
            async with LegacyClient(LOOPBACK, port) as client:
                return await client.get("/invoice/1420/messages", authorization=None)
        await asyncio.sleep(0.01)  # nobody tells when


async def made(command: str) -> Answer:
    """Make the call that a line of `curl` would."""
    arguments = shlex.split(command)
    login, password = arguments[arguments.index("-u") + 1].split(":")
    method = arguments[arguments.index("-X") + 1] if "-X" in arguments else "GET"
    url = URL(arguments[-1])
    async with LegacyClient(str(url.host), int(url.port or 0)) as client:
        return await client.call(
            method, url.path, authorization=aiohttp.encode_basic_auth(login, password)
        )


FREE_PORTS = ("--port", "0", "--sandbox-port", "0", "--admin-port", "0")


@pytest.mark.parametrize("flag", ["--port", "--sandbox-port", "--admin-port"])
def test_demo_says_which_of_its_ports_is_taken(flag: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]

        done = run("demo", *FREE_PORTS, flag, str(port))

    setting = flag.removeprefix("--").replace("-", "_")
    assert done.returncode == 2
    assert the_line(done.stderr).startswith(f"{setting}: cannot listen on {LOOPBACK}:{port}: ")


async def test_demo_prints_calls_that_work() -> None:
    commands: list[str] = []
    async with running("demo", *FREE_PORTS) as process:
        assert process.stdout is not None
        while len(commands) < 4:
            line = await process.stdout.readline()
            assert line, "it ended before it had printed four calls"
            if line.strip().startswith(b"curl "):
                commands.append(line.decode().strip())
        await process.stdout.readline()
        dashboard, v2 = re.findall(
            r"http://[0-9.:]+[a-z0-9/]+", (await process.stdout.readline()).decode()
        )
        async with aiohttp.ClientSession() as session, session.get(dashboard) as page:
            assert (page.status, page.content_type, v2[-3:]) == (200, "text/html", "/v2")
        listed, shown, deleted, untranslated = [await made(command) for command in commands]
        left = await made(commands[0])
        await process.stdout.readuntil(b"\n\n")
        asked = shlex.split((await process.stdout.readline()).decode())
        while b"GET /clients" not in (known := run(*asked[1:]).stdout):
            assert known.startswith(b"id\tintegration\t")
        status, log = await told_to_stop(process)

    assert [listed.status, shown.status, deleted.status] == [200, 200, 200]
    assert untranslated.status == 501
    assert_valid(listed.body, "invoice-messages/classic-list")
    assert_valid(shown.body, "invoice-messages/final-item")
    assert deleted.body == b""
    assert (listed.texts("id"), shown.texts("id")) == (["403", "409"], ["409"])
    assert left.texts("id") == ["409"]
    assert status == 0
    assert SANDBOX_TOKEN.encode() not in log


class TestSandbox:
    async def call(self, port: int, method: str, path: str) -> Any:
        headers = {
            "Authorization": f"Bearer {SANDBOX_TOKEN}",
            "Harvest-Account-Id": str(SANDBOX_ACCOUNT_ID),
            "User-Agent": "Tests (tests@example.com)",
        }
        async with (
            aiohttp.ClientSession(f"http://{LOOPBACK}:{port}", headers=headers) as session,
            session.request(method, path, raise_for_status=True) as response,
        ):
            return await response.json() if method == "GET" else await response.read()

    async def ids(self, port: int) -> list[int]:
        listed = await self.call(port, "GET", "/v2/invoices/1420/messages")
        return [each["id"] for each in listed["invoice_messages"]]

    async def test_it_prints_where_v2_is_and_who_may_call_it(self) -> None:
        async with running("sandbox", "--port", "0", "--v1-port", "0") as process:
            assert process.stdout is not None
            port = await listening_port(process)
            lines = [(await process.stdout.readline()).decode().rstrip() for _ in range(25)]
            v1 = lines[13].removeprefix("Its v1 is at ").partition(". ")[0]
            _, login, password = lines[14].split(", ")
            headers = {"Authorization": aiohttp.encode_basic_auth(login, password)}
            async with aiohttp.request("GET", f"{v1}/clients", headers=headers) as clients:
                assert clients.status == 200
            await told_to_stop(process)

        url = f"http://{LOOPBACK}:{port}/v2"
        assert lines[:4] == [
            f"A sandbox of v2 is running, at {url}. It knows:",
            "  account 1000, token sandbox-token: Bob Powell, may do everything",
            "  account 1000, token sandbox-limited: Mary Major, may see who she is, nothing else",
            "  account 2000, token second-sandbox-token: Sue Second, may do everything",
        ]
        assert f"--upstream {url} --account-id 1000" in lines[10]
        assert lines[23:] == [
            f"  harvest-bridge serve --mode observe --legacy-origin {v1} \\",
            f"      --upstream {url} --contact you@example.com",
        ]

    async def test_a_database_keeps_what_was_deleted(self, tmp_path: Path) -> None:
        arguments = ("sandbox", "--port", "0", "--database", str(tmp_path / "sandbox.db"))
        async with running(*arguments) as process:
            port = await listening_port(process)
            before = await self.ids(port)
            await self.call(port, "DELETE", "/v2/invoices/1420/messages/403")
            status, _ = await told_to_stop(process)
        async with running(*arguments) as process:
            after = await self.ids(await listening_port(process))

        assert status == 0
        assert (before, after) == ([403, 409], [409])

    def test_a_standing_copy_is_an_address(self) -> None:
        done = run("sandbox", "--port", "0", "--standing-copy", "nobody")

        assert done.returncode == 2
        assert the_line(done.stderr).startswith("--standing-copy: must be an address")

    async def test_the_company_can_be_for_administrators_only(self) -> None:
        headers = {"Authorization": f"Bearer {SANDBOX_LIMITED_TOKEN}", "Harvest-Account-Id": "1000"}
        async with running("sandbox", "--port", "0", "--company-for-admins") as process:
            port = await listening_port(process)
            async with (
                aiohttp.ClientSession(f"http://{LOOPBACK}:{port}", headers=headers) as session,
                session.get("/v2/company") as company,
            ):
                assert company.status == 403

    def test_a_file_that_is_no_sandbox_is_one_line(self, tmp_path: Path) -> None:
        database = tmp_path / "notes.txt"
        database.write_text("Not a database, and not to be touched. " * 100)

        done = run("sandbox", "--port", "0", "--database", str(database))

        assert done.returncode == 2
        assert str(database) in the_line(done.stderr)
        assert database.read_text() == "Not a database, and not to be touched. " * 100


async def test_demo_does_not_heed_the_settings_of_a_real_bridge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HARVEST_BRIDGE_PORT", "nonsense")
    monkeypatch.setenv("HARVEST_BRIDGE_DIALECT", "final")
    async with running("demo", *FREE_PORTS) as process:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(4)]
        status, _ = await told_to_stop(process, signal.SIGTERM)

    assert "/invoice/1420/messages" in "".join(lines)
    assert status == 0
