"""Load: wrk, told by `load.lua` what to ask for; and single calls, to see what comes back."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from math import ceil
from pathlib import Path
from typing import NamedTuple

from tests.bench.machine import NotMeasured, pinned
from tests.support.legacy import BASIC
from tests.support.running import LOOPBACK

_SCRIPT = Path(__file__).with_name("load.lua")
_TIMEOUT = 60
WARM = 1
"""Seconds that a load may take until it counts."""


@dataclass(frozen=True)
class Calls:
    """What to ask for, by how many connections at once."""

    path: str
    """With `{id}` for the invoice's."""
    first: int
    """The first invoice's id; each call asks for the next."""
    among: int = 0
    """How many ids take turns; 0: none comes twice."""
    connections: int = 16
    method: str = "GET"
    body: str = ""


class Load(NamedTuple):
    """What came of it."""

    per_second: float
    """Calls, once all was warm."""
    answered: int
    """Calls, from the first on."""
    failed: int
    median: float
    """Seconds that a call took, as all that follow."""
    p99: float


def require_wrk() -> str:
    """Return where wrk is.

    Raises:
        NotMeasured: nowhere.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NotMeasured("wrk is not installed")
    return wrk


class Loading:
    """wrk at work."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self.process = process
        self._seconds = seconds

    def result(self) -> Load:
        """Wait for the end.

        Raises:
            NotMeasured: wrk failed.
        """
        output, complaint = self.process.communicate()
        try:
            told = json.loads(output.strip().splitlines()[-1])
        except (IndexError, ValueError):
            said = (complaint or output).strip().splitlines() or ["nothing"]
            raise NotMeasured(f"wrk said: {said[-1]}") from None
        return Load(
            # Too slow for two rounds of answers: the whole time has to do.
            told["counted"] / told["seconds"]
            if told["seconds"]
            else told["answered"] / self._seconds,
            told["answered"],
            told["failed"],
            told["median"] / 1e6,
            told["p99"] / 1e6,
        )


@contextmanager
def loading(
    port: int, calls: Calls, seconds: float, core: int | None, warm: float = WARM
) -> Iterator[Loading]:
    """Make calls for `warm` and then `seconds`; what is not over with the block is ended."""
    command = [
        *(require_wrk(), "-t1", f"-c{calls.connections}", f"-d{ceil(warm + seconds)}s"),
        *("--timeout", f"{_TIMEOUT}s", "-s", str(_SCRIPT), "-H", f"Authorization: {BASIC}"),
        *(f"http://{LOOPBACK}:{port}", "--", calls.method, calls.path, calls.body),
        *(str(each) for each in (calls.first, calls.among, calls.connections, warm)),
    ]
    with (
        pinned(core),
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Loading(process, warm + seconds)
        finally:
            process.kill()


def load(port: int, calls: Calls, seconds: float, core: int | None, warm: float = WARM) -> Load:
    """Make calls for `warm` and then `seconds`, and return what came of it."""
    with loading(port, calls, seconds, core, warm) as work:
        return work.result()


def call_in_turn(port: int, calls: Calls, times: int) -> bytes:
    """Make calls one by one on one connection, and return the last answer.

    Raises:
        NotMeasured: one was not answered 200.
    """
    connection = HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT)
    body = b""
    try:
        for number in range(times):
            invoice = calls.first + (number % calls.among if calls.among else number)
            path = calls.path.format(id=invoice)
            connection.request("GET", path, headers={"Authorization": BASIC})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise NotMeasured(f"it answered {answer.status}: {body[:200]!r}")
    except OSError as error:
        raise NotMeasured(f"it did not answer: {error}") from None
    finally:
        connection.close()
    return body
