"""What is shipped: wheel and sdist hold what they have to and nothing else, install, and run.

`tests/test_lock.py` has what they are tested with.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from pathlib import Path

import aiohttp
import pytest
from lxml import etree
from packaging.metadata import Metadata

from bridge import __version__
from bridge.sandbox.app import SANDBOX_ACCOUNT_ID
from bridge.settings import PREFIX
from bridge.v1.xsd import schema, schema_directory
from tests.support.legacy import LegacyClient, assert_valid
from tests.support.running import LOOPBACK
from tests.support.upstream import message

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "schemas"
XSDS = sorted(path.relative_to(SCHEMAS).as_posix() for path in SCHEMAS.rglob("*.xsd"))
PATIENCE = 60
"""Seconds until a process counts as hanging."""


def test_a_checkout_uses_its_own_schemas() -> None:
    assert schema_directory() == SCHEMAS
    assert "errors.xsd" in XSDS


@pytest.mark.parametrize("name", XSDS)
def test_every_schema_compiles(name: str) -> None:
    assert isinstance(schema(name.removesuffix(".xsd")), etree.XMLSchema)


def built(tree: Path, folder: Path, kind: str) -> Path:
    """Build the wheel or the sdist of a source tree, and return its file."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=tree,
        capture_output=True,
        check=True,
    )
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return built(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this checkout."""
    return built(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree of the sdist; its files are of today, and its folders elsewhere."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    for path in tree.rglob("*"):
        os.utime(path)
    return tree


NO_WAY_BACK = """
import sys

def refuse(event, arguments):
    if event in {{"open", "os.listdir", "os.scandir"}} and isinstance(arguments[0], str):
        if arguments[0].startswith({root!r}) and not arguments[0].startswith({prefix!r}):
            raise PermissionError(f"the checkout is out of reach: {{arguments[0]}}")

sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, and no way to the checkout.

    The dependencies are those of the tests: a `.pth` leads there, and does not follow the one that
    leads from there to the checkout.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder), "install", "--no-index", "--no-deps",
         "--quiet", "--disable-pip-version-check", str(wheel)],
        check=True,
    )  # fmt: skip
    (site_packages,) = folder.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    guard = NO_WAY_BACK.format(root=f"{ROOT}{os.sep}", prefix=f"{sys.prefix}{os.sep}")
    (site_packages / "no_way_back.py").write_text(guard)
    (site_packages / "dependencies.pth").write_text(f"{ours}\nimport no_way_back\n")
    (site_packages / "schemas").mkdir()  # where a checkout would have them
    return folder / "bin"


ENVIRONMENT = {
    name: text
    for name, text in os.environ.items()
    if not name.startswith((PREFIX, "PYTHON")) and name != "VIRTUAL_ENV"
}


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata_of(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return archive.read(name)


def files_of(folder: str) -> set[str]:
    """Return the files of a folder of the checkout that are its own, not made by running it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.package
class TestWheel:
    def test_the_package_and_the_schemas_are_in_it_and_nothing_else(self, wheel: Path) -> None:
        about = f"harvest_bridge-{__version__}.dist-info"

        assert names_in(wheel) == files_of("bridge") | {
            f"bridge/{name}" for name in files_of("schemas")
        } | {
            f"{about}/{name}"
            for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
        }

    def test_its_schemas_are_the_checkouts(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            shipped = {name: archive.read(f"bridge/{name}") for name in files_of("schemas")}

        assert shipped == {name: (ROOT / name).read_bytes() for name in files_of("schemas")}

    def test_the_one_of_the_sdist_is_the_same_to_the_byte(
        self, wheel: Path, unpacked: Path, tmp_path: Path
    ) -> None:
        again = built(unpacked, tmp_path, "wheel")

        assert again.name == wheel.name
        assert again.read_bytes() == wheel.read_bytes()

    def test_its_metadata_is_what_an_index_takes(self, wheel: Path) -> None:
        """Every field is known and well-formed, and the long description is there."""
        metadata = Metadata.from_email(metadata_of(wheel), validate=True)

        assert (metadata.name, str(metadata.version)) == ("harvest-bridge", __version__)
        assert metadata.license_expression == "Apache-2.0"
        assert metadata.description_content_type == "text/markdown"
        assert metadata.description == (ROOT / "README.md").read_text()

    def test_traces_are_an_extra_and_what_develops_it_is_not(self, wheel: Path) -> None:
        told = message_from_bytes(metadata_of(wheel))
        needed = told.get_all("Requires-Dist", [])

        assert told.get_all("Provides-Extra") == ["traces"]
        extra = {text for text in needed if "extra ==" in text}
        assert {re.split(r"[<>=]", text)[0] for text in extra} == {
            "opentelemetry-exporter-otlp-proto-http",
            "opentelemetry-sdk",
        }
        assert not [text for text in needed if text.startswith(("pytest", "hatchling"))]


@pytest.mark.package
class TestSdist:
    def test_it_is_the_same_to_the_byte_when_made_of_itself(
        self, sdist: Path, unpacked: Path, tmp_path: Path
    ) -> None:
        again = built(unpacked, tmp_path, "sdist")

        assert again.name == sdist.name
        assert again.read_bytes() == sdist.read_bytes()

    def test_it_has_what_the_repository_has(self, sdist: Path) -> None:
        if not (ROOT / ".git").exists() or shutil.which("git") is None:
            pytest.skip("this tree is no git repository")
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode()
        there = {name for name in tracked.split("\0") if name and (ROOT / name).is_file()}
        with tarfile.open(sdist) as archive:
            names = {member.name.partition("/")[2] for member in archive if member.isfile()}

        assert names - {"PKG-INFO"} == there


@asynccontextmanager
async def running(
    command: Path, *arguments: str, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command in `folder`; it has to stop when told to, with status 0."""
    process = await asyncio.create_subprocess_exec(
        command,
        *arguments,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
            process.terminate()
            _, told = await process.communicate()
        assert process.returncode == 0, told.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def ports(process: asyncio.subprocess.Process, count: int) -> list[int]:
    """Read the log until it has said so many times where it listens."""
    assert process.stderr is not None
    found: list[int] = []
    read = b""
    async for line in process.stderr:
        read += line
        if line.startswith(b"{") and (told := json.loads(line))["event"] == "listening":
            found.append(told["port"])
            if len(found) == count:
                return found
    raise AssertionError(f"it ended before it listened: {read.decode()}")


def names_below(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def assert_dashboard(url: str) -> None:
    """The overview and each file that it names are served."""
    async with aiohttp.ClientSession(url) as session:
        async with session.get("/") as answer:
            assert answer.status == 200
            drawn = etree.HTML(await answer.text())
        files = [each.attrib["href"] for each in drawn.iter("link")]
        files += [each.attrib["src"] for each in drawn.iter("script")]
        assert len(files) > 1
        for file in files:
            async with session.get(str(file)) as answer:
                assert answer.status == 200, file


@pytest.mark.package
class TestInstalled:
    """The command of the wheel, in an empty folder."""

    def run(
        self,
        installed: Path,
        folder: Path,
        *arguments: str,
        given: bytes = b"",
        status: int = 0,
    ) -> bytes:
        done = subprocess.run(
            [installed / "harvest-bridge", *arguments],
            input=given,
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, done.stderr.decode()
        return done.stdout

    def test_it_knows_its_version(self, installed: Path, tmp_path: Path) -> None:
        told = self.run(installed, tmp_path, "--version")

        assert told.decode() == f"harvest-bridge {__version__}\n"

    def test_nothing_of_it_comes_from_the_checkout(self, installed: Path, tmp_path: Path) -> None:
        """Nor could it: what follows rests on this."""
        code = (
            "import bridge.v1.xsd;"
            "print(bridge.__file__, bridge.v1.xsd.schema_directory(), sep='\\n');"
            f"open({str(ROOT / 'pyproject.toml')!r})"
        )

        done = subprocess.run(
            [installed / "python", "-c", code],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )

        (package, schemas) = map(Path, done.stdout.decode().split())
        assert package.is_relative_to(installed.parent)
        assert schemas == package.parent / "schemas"
        assert b"PermissionError: the checkout is out of reach" in done.stderr

    def test_it_translates(self, installed: Path, tmp_path: Path) -> None:
        given = json.dumps(message()).encode()

        written = self.run(installed, tmp_path, "translate", "--invoice-id", "7", given=given)

        assert_valid(written, "invoice-messages/classic-item")

    def test_it_explains(self, installed: Path, tmp_path: Path) -> None:
        told = self.run(installed, tmp_path, "explain", "GET", "/invoice/7/messages", "--json")

        (asked,) = json.loads(told)["v2"]
        assert (asked["method"], asked["path"]) == ("GET", "/invoices/7/messages")

    def test_it_knows_the_counterparts_of_what_is_not_translated(
        self, installed: Path, tmp_path: Path
    ) -> None:
        told = self.run(installed, tmp_path, "explain", "GET", "/clients", "--json", status=1)

        assert json.loads(told)["counterpart"] is not None

    async def test_it_serves_records_and_plans(self, installed: Path, tmp_path: Path) -> None:
        """With nothing but what `serve` cannot do without: its files are made where it runs."""
        command = installed / "harvest-bridge"
        async with running(command, "sandbox", "--port=0", folder=tmp_path) as sandbox:
            (v2,) = await ports(sandbox, 1)
            needed = (
                "--auth=token-as-password", f"--account-id={SANDBOX_ACCOUNT_ID}",
                "--contact=ops@acme.test", f"--upstream=http://{LOOPBACK}:{v2}/v2",
            )  # fmt: skip
            free = ("--port=0", "--admin-port=0")
            async with running(command, "serve", *needed, *free, folder=tmp_path) as bridge:
                port, admin = await ports(bridge, 2)
                async with LegacyClient(LOOPBACK, port) as client:
                    answer = await client.get("/invoice/1420/messages")
                await assert_dashboard(f"http://{LOOPBACK}:{admin}")

        assert answer.status == 200
        assert_valid(answer.body, "invoice-messages/classic-list")
        (call,) = self.run(installed, tmp_path, "calls", "--json").splitlines()
        integration = json.loads(call)["integration"]
        plan = self.run(installed, tmp_path, "plan", integration).decode()
        assert "/v2/invoices/" in plan

    async def test_its_demo_runs(self, installed: Path, tmp_path: Path) -> None:
        free = ("--port=0", "--sandbox-port=0", "--admin-port=0")
        async with running(installed / "harvest-bridge", "demo", *free, folder=tmp_path) as demo:
            assert demo.stdout is not None
            told = (await demo.stdout.readuntil(b"Ctrl-C")).decode()
            port = re.search(rf"http://{LOOPBACK}:(\d+)/invoice/1420/messages", told)
            admin = re.search(rf"http://{LOOPBACK}:\d+(?=/, the sandbox)", told)
            assert port is not None
            assert admin is not None
            async with LegacyClient(LOOPBACK, int(port[1])) as client:
                assert (await client.get("/invoice/1420/messages")).status == 200
            await assert_dashboard(admin[0])

        assert names_below(tmp_path) == []
