"""`harvest-bridge check` and `harvest-bridge config`, as an operator runs them."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.settings import PREFIX, Settings
from tests.support.gateways import free_port
from tests.support.origins import running_origin
from tests.support.running import empty_log, running_service
from tests.support.writing import HELLO, SEND, XML

COMMAND = (sys.executable, "-m", "bridge")
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
NEEDED = ("--contact=ops@acme.dev", "--auth=bearer", "--account-id=1000")
FREE = ("--port=0", "--admin-port=0")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run_here(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


class TestCheck:
    def test_what_is_good_is_a_line_a_check_and_status_0(self, tmp_path: Path) -> None:
        status, told, _ = run_here("check", *NEEDED, *FREE, "--offline")

        head, *lines = [line.split("\t") for line in told.splitlines()]
        assert (status, head) == (0, ["verdict", "check", "what", "mend"])
        assert {(verdict, mend) for verdict, _, _, mend in lines} == {("ok", "")}
        checks = [
            "settings", "admin token", "certificate", "database", "journal", "port", "admin port",
            "open files",
        ]  # fmt: skip
        assert [check for _, check, _, _ in lines] == checks
        assert list(tmp_path.iterdir()) == []

    def test_what_is_wrong_is_told_with_what_to_mend_and_status_1(self) -> None:
        flags = ("--upstream=http://127.0.0.1:1/v2", "--admin-bearer-token=env:NO_SUCH_TOKEN")

        status, told, _ = run_here("check", *NEEDED, *FREE, *flags)

        lines = [line.split("\t") for line in told.splitlines()]
        wrong = {check: mend for verdict, check, _, mend in lines if verdict == "wrong"}
        assert (status, [*wrong]) == (1, ["admin token", "v2"])
        assert all(wrong.values())

    def test_what_is_warned_of_is_status_0(self) -> None:
        assert run_here("check", *NEEDED, *FREE, "--offline", "--host=0.0.0.0")[0] == 0

    async def test_v1_is_looked_at_if_calls_are_passed_through_to_it(self) -> None:
        port = free_port()

        async def told_of(url: str) -> str:
            flags = ("--mode=observe", f"--port={port}", f"--legacy-origin={url}")
            return (await asyncio.to_thread(run_here, "check", *NEEDED, *flags))[1]

        async with running_origin() as origin:
            good = await told_of(origin.url)
            origin.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            gone = await told_of(origin.url)
            down = await told_of("http://127.0.0.1:1")
            loop = await told_of(f"http://localhost:{port}")

        said = [
            next(each for each in told.splitlines() if "legacy origin" in each)
            for told in (good, gone, down, loop)
        ]
        assert [each.partition("\t")[0] for each in said] == ["ok", "warning", "wrong", "wrong"]
        assert "the bridge itself" in said[3]
        assert "Authorization" not in str(origin.heads)

    def test_each_wrong_setting_is_a_check_of_its_own(self) -> None:
        status, told, _ = run_here("check", "--port=x", "--sunset=soon", "--json")

        found = json.loads(told)
        assert (status, {each["verdict"] for each in found}) == (1, {"wrong"})
        names = sorted(each["told"].partition(":")[0] for each in found)
        assert names == ["auth", "contact", "port", "sunset"]

    def test_a_wrong_command_line_is_status_2(self) -> None:
        assert run_here("check", "--onlin")[0] == 2

    async def test_a_running_bridge_does_not_notice(self, sandbox: str, tmp_path: Path) -> None:
        """In another process: one that closes a journal drops the locks that it has itself."""
        journal, database = tmp_path / "journal.sqlite", empty_log(tmp_path)
        kept = {"journal": journal, "database": database, "account_id": 1000}
        flags = (f"--journal={journal}", f"--database={database}", f"--upstream={sandbox}")
        async with running_service(sandbox, **kept) as (service, client):
            ports = (f"--port={service.port}", f"--admin-port={service.admin_port}")
            assert (await client.call("POST", SEND, body=HELLO, headers=XML)).status == 201
            before = seen(tmp_path)
            done = await asyncio.to_thread(
                subprocess.run,
                [*COMMAND, "check", "--json", *NEEDED, *flags, *ports],
                env=ENVIRONMENT, capture_output=True, check=False, timeout=60,
            )  # fmt: skip
            after = seen(tmp_path)
            assert (await client.call("DELETE", f"{SEND}/409")).status == 200

        names, (file, written) = before
        assert after[0] == names
        assert (after[1][0], after[1][1][: len(written)]) == (file, written)  # it may write more
        found = {each["check"]: each["verdict"] for each in json.loads(done.stdout)}
        in_use = dict.fromkeys(("journal", "port", "admin port"), "warning")
        good = ("settings", "admin token", "certificate", "v2", "clock", "tokens", "database",
                "open files")  # fmt: skip
        assert found == {**in_use, **dict.fromkeys(good, "ok")}
        assert done.returncode == 0


def seen(folder: Path) -> tuple[set[str], list[bytes]]:
    """The names of all files, and what is in the journal's."""
    return (
        {each.name for each in folder.iterdir()},
        [(folder / f"journal.sqlite{end}").read_bytes() for end in ("", "-wal")],
    )


class TestConfig:
    def test_each_setting_is_told_with_its_value_and_its_source(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "bridge.toml"
        file.write_text('# ours\njournal = "data/journal"\nport = 1\n')
        monkeypatch.setenv(f"{PREFIX}SUNSET", "2027-06-30")

        status, told, _ = run_here("config", *NEEDED, "--config", str(file), "--port=2")

        lines = {line.split("\t")[0]: line.split("\t")[1:] for line in told.splitlines()[1:]}
        assert (status, [*lines]) == (0, [*Settings.model_fields])
        assert lines["journal"] == [f"{tmp_path}/data/journal", f"{file}:2"]
        assert lines["port"] == ["2", "--port"]
        assert lines["sunset"] == ["2027-06-30", f"{PREFIX}SUNSET"]
        assert lines["host"] == ["127.0.0.1", "default"]
        assert lines["book"] == ["", "default"]

    @pytest.mark.parametrize("form", [(), ("--json",)])
    def test_no_secret_is_told(
        self, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ADMIN", "s3cret-0123456789")
        url = "postgresql://bridge:s3cret@db/calls?password=s3cret&sslmode=require"
        flags = (f"--database={url}", "--database-key=k", "--admin-bearer-token=env:ADMIN")

        status, told, _ = run_here("config", *NEEDED, *flags, *form)

        assert (status, "s3cret" in told) == (0, False)
        assert "postgresql://bridge:***@db/calls" in told

    def test_json_has_values_of_their_types(self) -> None:
        _, told, _ = run_here("config", *NEEDED, "--domains=b.org,a.org", "--json")

        found = json.loads(told)
        assert found["port"] == {"value": 8080, "source": "default", "place": None}
        assert found["account_id"] == {"value": 1000, "source": "flag", "place": "--account-id"}
        assert found["domains"]["value"] == ["b.org", "a.org"]

    def test_all_that_is_wrong_is_one_line(self) -> None:
        status, told, error = run_here("config", "--port=x", "--sunset=soon")

        assert (status, told) == (2, "")
        complaints = error.removeprefix("harvest-bridge: ").split("; ")
        assert [each.partition(":")[0] for each in complaints] == [
            "contact", "auth", "port", "sunset"
        ]  # fmt: skip
