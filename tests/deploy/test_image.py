"""deploy/Dockerfile: nobody's root, no shell, what was locked, and a check of health that works."""

import asyncio
import json
import re
import subprocess
import sys
from fnmatch import fnmatch

import pytest

from tests.support.deployed import (
    DEPLOY,
    ROOT,
    dockerfile,
    environment_of_the_image,
    in_the_environments_bin,
    loaded,
    said_by,
)
from tests.support.running import running_service
from tests.support.upstream import ScriptedUpstream

UID = "10001"
TEXT = (DEPLOY / "Dockerfile").read_text()


def given(instruction: str) -> str:
    (found,) = (rest for name, rest in dockerfile() if name == instruction)
    return found


def test_hadolint_finds_no_fault() -> None:
    assert said_by(in_the_environments_bin("hadolint"), DEPLOY / "Dockerfile") == ""


def test_the_base_is_pinned_by_a_tag_and_a_digest() -> None:
    (base,) = re.findall("^ARG PYTHON=(.*)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert re.findall("^FROM (.*)$", TEXT, re.MULTILINE) == ["${PYTHON} AS build", "${PYTHON}"]


def test_all_that_is_downloaded_has_a_hash() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install(.*?)(?:&&|\n\S)", TEXT, re.DOTALL)
    assert len(installs) == 3
    for each in installs:
        locked = "--require-hashes" in each and "--only-binary=:all:" in each
        assert locked or "--no-index" in each


def test_the_image_runs_nothing_when_it_is_put_together_and_takes_no_shell() -> None:
    assert "RUN" not in [name for name, _ in dockerfile()]
    assert json.loads(given("ENTRYPOINT")) == ["harvest-bridge"]
    assert json.loads(given("CMD")) == ["serve"]


def test_it_is_a_number_who_runs_it_and_owns_the_one_folder_that_is_written_to() -> None:
    assert given("USER") == f"{UID}:{UID}"
    assert f"--chown={UID}:{UID} /state /var/lib" in [
        rest.removeprefix("--from=build ") for _, rest in dockerfile()
    ]
    assert given("WORKDIR") == "/var/lib/harvest-bridge"


def test_it_stops_as_the_bridge_does() -> None:
    assert given("STOPSIGNAL") == "SIGTERM"


def test_its_ports_are_those_that_its_bridge_listens_on(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"AUTH": "bearer", "CONTACT": "ops@acme.dev", "ACCOUNT_ID": "1000"}
    settings = loaded({f"HARVEST_BRIDGE_{k}": v for k, v in needed.items()}, monkeypatch)
    assert given("EXPOSE") == f"{settings.port} {settings.admin_port}"
    assert settings.host == "0.0.0.0"


def test_what_is_copied_is_let_in_and_what_is_not_is_kept_out() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    for each in let_in:
        assert (ROOT / each).exists(), each
    for secret in ("deploy/secrets/admin-token", ".git/config", "harvest-bridge.sqlite", ".venv/x"):
        assert not any(fnmatch(secret, f"{each}*") for each in let_in)


async def test_the_check_of_health_is_good_while_the_bridge_lives_and_not_afterwards(
    upstream: ScriptedUpstream,
) -> None:
    _, _, command = given("HEALTHCHECK").partition("CMD ")
    python, *arguments = json.loads(command)
    assert python.startswith(environment_of_the_image()["PATH"].partition(":")[0])

    async def checked(port: int) -> int:
        run = [sys.executable, *arguments]
        env = {"HARVEST_BRIDGE_ADMIN_PORT": str(port)}
        done = await asyncio.to_thread(
            subprocess.run, run, env=env, capture_output=True, check=False
        )
        return done.returncode

    async with running_service(upstream.base_url, account_id=1000) as (service, _):
        port = service.admin_port
        assert await checked(port) == 0
    assert await checked(port) == 1
