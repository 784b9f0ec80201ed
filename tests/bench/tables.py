"""The figures as text, a table each."""

from collections.abc import Sequence
from operator import attrgetter

from tests.bench.parts import Fairness, Memory, Posting, SystemCalls, Translation
from tests.bench.side_by_side import OTHERS, Speed
from tests.bench.stage import BASELINE
from tests.bench.telling import Telling

_SHOWN_CALLS = {
    "epoll": ("epoll_wait", "epoll_pwait", "epoll_pwait2"),
    "getpid": ("getpid",),
    "write": ("write", "writev", "sendto", "sendmsg"),
    "read": ("read", "readv", "recvfrom", "recvmsg"),
    "futex": ("futex",),
}


def of_speeds(speeds: Sequence[Speed]) -> list[str]:
    """Return the table of all candidates."""
    others = [other for other in OTHERS if any(other in speed.of for speed in speeds)]
    titles = "".join(f"{f'÷ {other}':>17}" for other in others)
    lines = [
        "Lists a second by 16 connections, the server alone on a core: medians, and their ratios",
        f"{'messages':>8}  {'candidate':<16}{'a second':>10}{'lowest':>10}{'highest':>10}{titles}",
    ]
    size = None
    for speed in speeds:
        if size not in {None, speed.messages}:
            lines.append("")
        size = speed.messages
        cells = "".join(
            f"{speed.of[other]:17.3f}" if other in speed.of else " " * 17 for other in others
        )
        lines.append(
            f"{speed.messages:>8}  {speed.candidate:<16}{speed.per_second:>10.1f}"
            f"{min(speed.rounds):>10.1f}{max(speed.rounds):>10.1f}{cells}".rstrip()
            + _failures(speed.failed)
        )
    return lines


def of_telling(rows: Sequence[Telling]) -> list[str]:
    """Return the table of what it costs to tell of calls."""
    return [
        "Telling of calls: lists a second, the process's CPU time a call, and how much more that is",
        f"{'messages':>8}  {'told':<22}{'a second':>10}{'÷ nobody':>10}{'CPU µs':>10}{'more µs':>10}",
        *(
            f"{row.messages:>8}  {row.told:<22}{row.per_second:>10.1f}{row.of_nobody:>10.3f}"
            f"{row.cpu_seconds * 1e6:>10.1f}{row.more_cpu_seconds * 1e6:>10.1f}"
            + _failures(row.failed)
            for row in rows
        ),
    ]


def of_translations(translations: Sequence[Translation]) -> list[str]:
    """Return the table of what translation takes on its own."""
    return [
        "Translation in a process of its own, 2,000 messages: MB of v2's JSON a second of CPU",
        *(
            f"{each.dialect:<8}  {each.kind:<10}{each.megabytes_per_second:10.1f}"
            for each in sorted(translations, key=attrgetter("dialect"))
        ),
    ]


def of_fairness(rows: Sequence[Fairness]) -> list[str]:
    """Return the table of what small calls wait."""
    titles = (
        f"{'':<10}{'idle median':>12}{'p99':>8}{'busy median':>13}{'p99':>8}{'p99 ÷ idle':>12}"
        f"{'small/s':>9}{'lists/s':>9}"
    )
    return [
        "Calls of 1 message by 4 clients, ms: idle, and while 8 clients fetch new lists of 2,000",
        titles,
        *(
            f"{row.bridge:<10}{row.idle_median * 1e3:12.2f}{row.idle_p99 * 1e3:8.2f}"
            f"{row.busy_median * 1e3:13.2f}{row.busy_p99 * 1e3:8.2f}{row.p99_ratio:12.2f}"
            f"{row.small_per_second:9.1f}{row.large_per_second:9.1f}" + _failures(row.failed)
            for row in rows
        ),
    ]


def of_postings(rows: Sequence[Posting]) -> list[str]:
    """Return the table of what a POST costs."""
    return [
        "POST of a message by 8 clients: the bridge's CPU time, ms a call",
        f"{'':<10}{'CPU ms':>8}{'a second':>10}{f'CPU ÷ {BASELINE}':>16}",
        *(
            f"{row.bridge:<10}{row.cpu_seconds * 1e3:8.3f}{row.per_second:10.1f}"
            + "".join(f"{ratio:16.2f}" for ratio in row.of.values())
            + _failures(row.failed)
            for row in rows
        ),
    ]


def of_system_calls(rows: Sequence[SystemCalls]) -> list[str]:
    """Return the table of system calls."""
    return [
        "System calls of a call of 1 message that comes alone",
        f"{'':<10}" + "".join(f"{name:>8}" for name in _SHOWN_CALLS) + f"{'all':>8}",
        *(
            f"{row.bridge:<10}"
            + "".join(
                f"{sum(row.a_call.get(name, 0) for name in names):8.2f}"
                for names in _SHOWN_CALLS.values()
            )
            + f"{sum(row.a_call.values()):8.2f}"
            for row in rows
        ),
    ]


def of_memory(rows: Sequence[Memory]) -> list[str]:
    """Return the table of memory."""
    return [
        "Memory over one list of 100,000 messages, MB",
        f"{'':<10}{'v2 JSON':>9}{'answer':>9}{'before':>9}{'peak':>9}{'growth':>9}{'÷ answer':>10}",
        *(
            f"{row.bridge:<10}"
            + "".join(
                f"{size / 1e6:9.1f}"
                for size in (row.json, row.answer, row.before, row.peak, row.growth)
            )
            + f"{row.growth / row.answer:10.2f}"
            for row in rows
        ),
    ]


def _failures(failed: int) -> str:
    return f"  ({failed} calls failed)" if failed else ""
