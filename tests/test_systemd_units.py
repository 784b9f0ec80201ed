"""The units of `deploy/systemd`: read by systemd's own tools, and true to the settings."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.server.limits import DESCRIPTORS_BESIDE
from bridge.server.service_manager import Handed
from bridge.settings import PREFIX, Settings

FOLDER = Path(__file__).parents[1] / "deploy" / "systemd"
DROP_INS = sorted((FOLDER / "harvest-bridge.service.d").glob("*.conf"))
UNITS = ("harvest-bridge.service", "harvest-bridge.socket")
as_systemd_reads_it = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder with the units and all drop-ins, and an interpreter that is there."""
    shutil.copytree(FOLDER, tmp_path / "units")
    service = tmp_path / "units" / "harvest-bridge.service"
    text = service.read_text()
    assert "/opt/harvest-bridge/current/bin/harvest-bridge" in text
    service.write_text(
        text.replace("/opt/harvest-bridge/current/bin/harvest-bridge", sys.executable)
    )
    return service.parent


def analyzed(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@as_systemd_reads_it
def test_systemd_finds_nothing_wrong_with_them(installed: Path) -> None:
    done = analyzed("verify", *(installed / unit for unit in UNITS), folder=installed)

    of_ours = [line for line in done.stderr.splitlines() if "harvest-bridge" in line]
    assert (done.returncode, of_ours) == (0, [])


@as_systemd_reads_it
@pytest.mark.parametrize(("without", "tenths"), [("port-443", 12), ("socket", 15)])
def test_the_service_is_hardly_exposed(installed: Path, without: str, tenths: int) -> None:
    """With all other drop-ins, by `systemd-analyze security`, whose scale goes to 10."""
    (installed / "harvest-bridge.service.d" / f"{without}.conf").unlink()

    done = analyzed(
        "security", "--offline=true", f"--threshold={tenths}",
        installed / "harvest-bridge.service", folder=installed,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def assignments(*names: str) -> Iterator[tuple[Path, str, str]]:
    """Yield the file, the name and the value of what the units and drop-ins assign."""
    for file in (FOLDER / UNITS[0], FOLDER / UNITS[1], *DROP_INS):
        for name, value in re.findall(r"^([A-Za-z]+)=(.*)$", file.read_text(), re.MULTILINE):
            if name in names:
                yield file, name, value


def values(name: str) -> list[str]:
    return [value for _, _, value in assignments(name)]


def test_every_setting_that_they_name_is_one() -> None:
    named = [
        value.partition("=")[0].removeprefix(PREFIX).lower()
        for value in values("Environment")
        if value.startswith(PREFIX)
    ]

    assert len(named) > 5
    assert set(named) <= {*Settings.model_fields, "config"}


@pytest.mark.parametrize("file", DROP_INS, ids=lambda file: file.stem)
def test_a_drop_in_names_the_credentials_that_it_loads(file: Path) -> None:
    mine = [
        (name, value)
        for of, name, value in assignments("LoadCredential", "Environment")
        if of == file
    ]
    loaded = {value.partition(":")[0] for name, value in mine if name == "LoadCredential"}
    used = {used for _, value in mine for used in re.findall(r"%d/(\S+)", value)}

    # The book names the tokens.
    assert loaded - {"token"} == used


def test_the_socket_has_a_name_that_the_bridge_knows() -> None:
    assert set(values("FileDescriptorName")) <= set(Handed._fields)


def test_there_are_descriptors_for_all_connections() -> None:
    [limit] = values("LimitNOFILE")

    assert int(limit) >= Settings.model_fields["connections"].default + DESCRIPTORS_BESIDE


def test_stopping_has_more_time_than_calls_under_way() -> None:
    [seconds] = values("TimeoutStopSec")

    assert int(seconds) > Settings.model_fields["stop_timeout"].default


def test_the_readme_names_every_drop_in() -> None:
    told = (FOLDER / "README.md").read_text()

    assert [file.name for file in DROP_INS if f"`{file.name}`" not in told] == []
