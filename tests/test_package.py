"""What is shipped: the schemas compile, travel inside the wheel and are found there."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from lxml import etree

from bridge.v1.xsd import schema, schema_directory
from tests.support.legacy import assert_valid
from tests.support.upstream import message

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "schemas"
XSDS = sorted(path.relative_to(SCHEMAS).as_posix() for path in SCHEMAS.rglob("*.xsd"))


def test_a_checkout_uses_its_own_schemas() -> None:
    assert schema_directory() == SCHEMAS
    assert "errors.xsd" in XSDS


@pytest.mark.parametrize("name", XSDS)
def test_every_schema_compiles(name: str) -> None:
    assert isinstance(schema(name.removesuffix(".xsd")), etree.XMLSchema)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import the wheel's package from."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.package
class TestWheel:
    def run(self, installed: Path, elsewhere: Path, *arguments: str, given: bytes = b"") -> bytes:
        """Run Python far from the checkout, with the unpacked wheel before all else."""
        return subprocess.run(
            [sys.executable, *arguments],
            input=given,
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(installed)},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    def test_every_file_of_the_schemas_is_in_it(self, wheel: Path) -> None:
        files = [path for path in SCHEMAS.rglob("*") if path.is_file()]
        with zipfile.ZipFile(wheel) as archive:
            shipped = {
                name: archive.read(name)
                for name in archive.namelist()
                if name.startswith("bridge/schemas/")
            }

        assert shipped == {
            f"bridge/schemas/{path.relative_to(SCHEMAS).as_posix()}": path.read_bytes()
            for path in files
        }

    def test_the_code_is_in_it_and_the_tests_are_not(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())

        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bridge").rglob("*.py")}
        assert {name for name in names if name.endswith(".py")} == modules
        assert "bridge/py.typed" in names

    def test_the_dashboards_templates_and_files_are_in_it(self, wheel: Path) -> None:
        folder = ROOT / "bridge" / "server" / "admin"
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())

        files = {
            path.relative_to(ROOT).as_posix()
            for kind in ("html", "css", "js", "svg")
            for path in folder.rglob(f"*.{kind}")
        }
        assert len(files) > 10
        assert files <= names

    def test_the_installed_schemas_are_preferred(self, installed: Path, tmp_path: Path) -> None:
        (installed / "schemas").mkdir(exist_ok=True)  # where a checkout would have them
        code = "from bridge.v1.xsd import schema_directory; print(schema_directory())"

        found = self.run(installed, tmp_path, "-c", code).decode().strip()

        assert Path(found) == installed / "bridge" / "schemas"

    def test_it_translates_far_from_a_checkout(self, installed: Path, tmp_path: Path) -> None:
        given = json.dumps(message()).encode()

        written = self.run(
            installed, tmp_path, "-m", "bridge", "translate", "--invoice-id", "7", given=given
        )

        assert_valid(written, "invoice-messages/classic-item")

    def test_its_migrations_make_a_translation_log(self, installed: Path, tmp_path: Path) -> None:
        code = (
            "from bridge.record.log.database import load_key, open_database;"
            "open_database('log', load_key('log', None)).dispose()"
        )

        self.run(installed, tmp_path, "-c", code)

        assert (tmp_path / "log").stat().st_size > 0
