"""Lines that are read late, or never: their order, their number, and who waits for it."""

import fcntl
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge.server import lines as lines_module
from bridge.server.lines import Lines

PIPE = 4096
"""Bytes that the pipes here hold: the least that there is."""
PATIENCE = 60
"""Seconds until a process counts as hanging."""


class Pipe(NamedTuple):
    lines: Lines
    reader: int

    def read(self) -> list[str]:
        """Read until nothing waits, and return the lines."""
        drained = threading.Event()
        read = bytearray()

        def drain() -> None:
            done = False
            while not done:
                done = drained.is_set()
                with suppress(BlockingIOError):
                    while piece := os.read(self.reader, PIPE):
                        read.extend(piece)

        os.set_blocking(self.reader, False)
        draining = threading.Thread(target=drain)
        draining.start()
        self.lines.flush(PATIENCE)
        drained.set()
        draining.join()
        return read.decode().splitlines()


def small_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
    return reader, writer


def small_socket() -> tuple[int, int]:
    """Return what systemd has for standard error."""
    reader, writer = socket.socketpair()
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE)
    return reader.detach(), writer.detach()


@pytest.fixture(params=[small_pipe, small_socket])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    reader, writer = request.param()
    with os.fdopen(writer, "w") as stream:
        pipe = Pipe(Lines(stream, lambda count: b"%d lost" % count), reader)
        yield pipe
        pipe.read()  # or what waits would go to whoever gets the number of the stream
        os.close(reader)


def numbered(lines: Lines, count: int, width: int = 100) -> list[str]:
    """Write so many lines, and return them."""
    written = [f"{number} ".ljust(width, "x") for number in range(count)]
    for each in written:
        lines.msg(each.encode())
    return written


def test_who_does_not_read_holds_nobody_up_and_gets_all_in_order_later(pipe: Pipe) -> None:
    written = numbered(pipe.lines, 1000)
    written += numbered(pipe.lines, 5, width=2 * PIPE)

    assert pipe.lines.problem() is not None
    assert pipe.read() == written
    assert pipe.lines.problem() is None
    assert pipe.lines.lost == 0


def test_a_long_line_is_not_overtaken(pipe: Pipe) -> None:
    written = [*numbered(pipe.lines, 1, width=2 * PIPE), *numbered(pipe.lines, 10)]

    assert pipe.read() == written


def test_one_for_which_no_thread_could_start_is_not_overtaken(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", no_more)
        written = numbered(pipe.lines, 1, width=2 * PIPE)
    written += numbered(pipe.lines, 10)

    assert pipe.read() == written


def test_what_is_too_much_is_lost_counted_and_told_where_it_would_stand(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MOST_WAITING", 3 * PIPE)
    written = numbered(pipe.lines, 1000)
    lost = pipe.lines.lost
    assert 500 < lost < 1000

    position = 0
    for line in pipe.read():
        if line.endswith(" lost"):
            position += int(line.removesuffix(" lost"))
        else:
            assert line == written[position]
            position += 1

    assert position == len(written)
    assert pipe.lines.problem() == f"{lost} lines are lost: they could not be written"
    pipe.lines.msg(b"on we go")
    assert pipe.read() == ["on we go"]


def test_what_waits_is_bounded_whatever_is_written(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MOST_WAITING", 3 * PIPE)
    numbered(pipe.lines, 10_000)

    with pipe.lines._lock:
        assert sum(map(len, pipe.lines._waiting)) <= 3 * PIPE


def test_several_threads_may_write(pipe: Pipe) -> None:
    threads = [threading.Thread(target=numbered, args=(pipe.lines, 200)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    read = pipe.read()

    assert len(read) == 1600
    assert {len(line) for line in read} == {100}


def test_a_stream_that_others_have_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.lines._number, False)
    written = numbered(pipe.lines, 1000)

    assert pipe.read() == written


def test_a_reader_that_is_gone_costs_lines_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        lines = Lines(stream, lambda _: b"")
        numbered(lines, 10)

    assert lines.problem() == "10 lines are lost: they could not be written"


def test_text_in_memory_will_do() -> None:
    stream = StringIO()
    written = numbered(Lines(stream, lambda _: b""), 3)

    assert stream.getvalue().splitlines() == written


def logging_process(code: str) -> "subprocess.Popen[bytes]":
    """Start a process that logs to a pipe of its own, which nobody reads yet."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, structlog; from bridge.server import logs; logs.configure(); {code}",
        ],
        stderr=subprocess.PIPE,
    )


def test_what_was_said_before_a_crash_is_there_after_it() -> None:
    with logging_process("structlog.get_logger().info('last words'); os._exit(9)") as process:
        assert process.stderr is not None
        assert b"last words" in process.stderr.read()
        assert process.wait(PATIENCE) == 9


def test_what_waits_at_the_end_is_written_if_it_is_read() -> None:
    code = "[structlog.get_logger().info('x' * 10_000) for _ in range(100)]"
    with logging_process(code) as process:
        assert process.stderr is not None
        assert len(process.stderr.read().splitlines()) == 100


def test_a_process_ends_though_nobody_reads() -> None:
    code = "[structlog.get_logger().info('x' * 10_000) for _ in range(100)]"
    with logging_process(code) as process:
        assert process.wait(PATIENCE) == 0


def test_a_terminal_that_nobody_reads_holds_nobody_up() -> None:
    script = """
import os, pty
from bridge.server.lines import Lines
_reader, terminal = pty.openpty()
lines = Lines(os.fdopen(terminal, "w"), lambda count: b"lost")
for _ in range(10_000):
    lines.msg(b"x" * 300)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE, check=False)

    assert done.returncode == 0


def test_lines_that_come_together_to_a_full_disk_are_lost_each() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - no file
        lines = Lines(full, lambda _count: b"")
        lines._is_file = True  # as a file on a full disk is
        lines.many([b"one", b"two", b"three"])

    assert lines.lost == 3


def test_lines_that_come_together_are_read_in_their_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        Lines(file, lambda _count: b"").many([b"one", b"two"])

    assert (tmp_path / "log").read_text() == "one\ntwo\n"
