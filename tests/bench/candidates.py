"""What is measured side by side: the bridge, and what else could be put in its place."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from bridge.record.log.capture import READ_EVERY
from tests.bench.machine import Command, NotMeasured, await_listening, free_port, started
from tests.support.running import LOOPBACK

PEERS = Path(__file__).with_name("peers")
ROOT = Path(__file__).parents[2]
UNTOLD = "tests.bench.untold"
_INSTALLED = Path(sys.prefix) / "bench-peers"
_FLASK_THREADS = 16


@dataclass(frozen=True)
class Candidate:
    """A server under test."""

    name: str
    port: int
    pid: int


def bridge_of(checkout: Path | None) -> Path:
    """Return the command `harvest-bridge` of a checkout that has it installed; None: of this one.

    Raises:
        NotMeasured: it has none.
    """
    commands = Path(sys.executable).parent if checkout is None else checkout / ".venv" / "bin"
    command = commands.absolute() / "harvest-bridge"
    if not command.exists():
        raise NotMeasured(f"there is no {command}: run `make test` there first")
    return command


@contextmanager
def bridge(
    name: str,
    checkout: Path | None,
    upstream: str,
    folder: Path,
    core: int | None,
    *,
    told: str | None = None,
    captured: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Candidate]:
    """Run `harvest-bridge serve` with all of its defaults: journal, log and all.

    `told` is who is told of its calls, if not everybody: as `untold` has it. `settings` are
    variables of its environment. What it is to capture is all calls, or none.
    """
    port, log, database = free_port(), folder / f"{name}.log", folder / f"{name}.log.sqlite"
    less: Command = [sys.executable, "-m", UNTOLD, told or ""]
    serve = [bridge_of(checkout)] if told is None else less
    command: Command = [
        *(*serve, "serve", "--auth", "token-as-password", "--account-id", "1000"),
        *("--contact", "bench@example.com", "--upstream", upstream),
        *("--port", str(port), "--admin-port", "0", "--journal", folder / f"{name}.sqlite"),
        *(("--database", database) if checkout is None else ()),
    ]
    environment = {**(settings or {}), **({"PYTHONPATH": str(ROOT)} if told else {})}
    with started(command, log, core=core, environment=environment) as process:
        await_listening(process, port, log)
        if captured:
            rule = ("capture", "--all", "all", "--for", "2h", "--database", str(database))
            subprocess.run([bridge_of(checkout), *rule], check=True, capture_output=True)
            sleep(READ_EVERY + 1)
        yield Candidate(name, port, process.pid)


@contextmanager
def pass_through(name: str, upstream: str, folder: Path, core: int | None) -> Iterator[Candidate]:
    """Run the yardstick, with the very aiohttp that the bridge runs on."""
    port, log = free_port(), folder / "pass-through.log"
    command: Command = [sys.executable, PEERS / "passthrough.py", upstream, str(port)]
    with started(command, log, core=core) as process:
        await_listening(process, port, log)
        yield Candidate(name, port, process.pid)


@contextmanager
def node_express(name: str, upstream: str, folder: Path, core: int | None) -> Iterator[Candidate]:
    """Run express and fast-xml-parser on Node."""
    node = shutil.which("node")
    if node is None:
        raise NotMeasured("node is not installed")
    environment = {"NODE_PATH": str(_node_modules()), "NODE_ENV": "production"}
    port, log = free_port(), folder / "express.log"
    command: Command = [node, PEERS / "express.js", upstream, str(port)]
    with started(command, log, core=core, environment=environment) as process:
        await_listening(process, port, log)
        yield Candidate(name, port, process.pid)


@contextmanager
def flask_gunicorn(name: str, upstream: str, folder: Path, core: int | None) -> Iterator[Candidate]:
    """Run Flask and xmltodict under gunicorn, one worker with threads, for it keeps connections."""
    environment = {"UPSTREAM": upstream, "HOME": str(folder)}
    port, log = free_port(), folder / "flask.log"
    command: Command = [
        *(_flask_python(), "-m", "gunicorn", "--bind", f"{LOOPBACK}:{port}", "--workers", "1"),
        *("--worker-class", "gthread", "--threads", str(_FLASK_THREADS), "--keep-alive", "3600"),
        *("--pythonpath", PEERS, "flask_peer:app"),
    ]
    with started(command, log, core=core, environment=environment) as process:
        await_listening(process, port, log)
        yield Candidate(name, port, process.pid)


def _flask_python() -> Path:
    """Return a Python that has what Flask's peer needs, installed if need be."""
    wanted, folder = PEERS / "requirements.txt", _INSTALLED / "python"
    python = folder / "bin" / "python"
    if not _is_current(folder, wanted):
        venv.create(folder, clear=True, with_pip=True)
        _install([python, "-m", "pip", "install", "--quiet", "-r", wanted], folder)
        _note_current(folder, wanted)
    return python


def _node_modules() -> Path:
    """Return the folder of Node modules that has what express's peer needs."""
    wanted, folder = PEERS / "package.json", _INSTALLED / "node"
    if not _is_current(folder, wanted):
        npm = shutil.which("npm")
        if npm is None:
            raise NotMeasured("npm is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(wanted, folder)
        quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
        _install([npm, "install", *quiet], folder)
        _note_current(folder, wanted)
    return folder / "node_modules"


def _install(command: Command, folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise NotMeasured(f"its packages cannot be installed: {said[-1][:200]}")


def _is_current(folder: Path, wanted: Path) -> bool:
    note = folder / ".installed"
    return note.exists() and note.read_text() == _digest(wanted)


def _note_current(folder: Path, wanted: Path) -> None:
    (folder / ".installed").write_text(_digest(wanted))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes() + os.fsencode(sys.version)).hexdigest()
