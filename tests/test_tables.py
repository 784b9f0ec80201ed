"""Tables of the commands on a real terminal, wide and narrow."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

HEAD = ("time", "id", "integration", "calls")
ROWS = [
    ("2026-11-26T06:50:48Z", "7531610392658033152", "the nightly run of the billing system", "7"),
    ("2026-11-26T06:50:49Z", "7531610392658033153", "the CRM", ""),
]
STACKS = (("time", "id"), ("integration", "calls"))


def drawn(columns: int, stacks: tuple[tuple[str, ...], ...] = STACKS) -> list[str]:
    """Return the lines of the table on a terminal of that width, without their ends."""
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in SIZE}
    code = f"from bridge.cli.terminal import print_table; print_table({HEAD}, {ROWS}, {stacks})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=terminal,
        env={**environ, "TERM": "xterm", "NO_COLOR": "1"},
    ):
        os.close(terminal)
        told = read_all(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", told.decode())
    return [line.rstrip() for line in text.splitlines() if line.strip()]


SIZE = {"COLUMNS", "LINES"}


def read_all(terminal: int) -> bytes:
    told = b""
    with suppress(OSError):  # which says that the other end is closed
        while more := os.read(terminal, 4096):
            told += more
    os.close(terminal)
    return told


def test_a_wide_terminal_has_a_column_for_each() -> None:
    head, _, first, second = drawn(120)

    assert head.split() == list(HEAD)
    assert first.split("   ")[0].strip() == "2026-11-26T06:50:48Z"
    assert second.split()[-2:] == ["the", "CRM"]


def test_a_narrow_terminal_has_columns_below_each_other() -> None:
    lines = drawn(60)

    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["time", "integration"]
    assert lines[1].split() == ["id", "calls"]
    assert lines[3].split()[0] == "2026-11-26T06:50:48Z"
    assert lines[4].split()[0] == "7531610392658033152"


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100])
@pytest.mark.parametrize("stacks", [STACKS, ()])
def test_an_id_and_a_time_stay_whole(columns: int, stacks: tuple[tuple[str, ...], ...]) -> None:
    """They are there to be copied."""
    text = "\n".join(drawn(columns, stacks))

    assert all(cell in text for row in ROWS for cell in row[:2])
