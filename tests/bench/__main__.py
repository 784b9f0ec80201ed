"""`python -m tests.bench`: what the bridge costs, beside what else could be put in its place.

README.md says what is measured and how far it can be trusted.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from bridge.v1.dialects import Dialect
from tests.bench import parts, tables, telling
from tests.bench.machine import NotMeasured, cores
from tests.bench.reports import say
from tests.bench.side_by_side import table
from tests.bench.stage import Bench

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Part(NamedTuple):
    """A measurement, and how its figures are shown."""

    measure: Callable[[Bench], Sequence[Any]]
    show: Callable[[Any], list[str]]


PARTS = {
    "table": Part(table, tables.of_speeds),
    "telling": Part(telling.telling, tables.of_telling),
    "translate": Part(parts.translate, tables.of_translations),
    "fairness": Part(parts.fairness, tables.of_fairness),
    "post": Part(parts.post, tables.of_postings),
    "syscalls": Part(parts.syscalls, tables.of_system_calls),
    "memory": Part(parts.peak_memory, tables.of_memory),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="of each measurement")
    parser.add_argument(
        "--seconds", type=_positive, default=3, help="of each measurement in a round"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--sizes", nargs="+", type=_positive, default=[1, 20, 2000], help="messages of a list"
    )
    parser.add_argument(
        "--dialect", type=Dialect, choices=list(Dialect), default=Dialect.CLASSIC, help="to call"
    )
    parser.add_argument("--baseline", type=Path, help="a checkout with a bridge to compare with")
    parser.add_argument(
        "--pin-fairness", action="store_true", help="keep the bridge on a core there, too"
    )
    parser.add_argument("--json", action="store_true", help="print nothing but a JSON document")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()


def _stop(*_: object) -> NoReturn:
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)  # what has been started is being ended
    raise KeyboardInterrupt


def main() -> None:
    """Measure what is asked for."""
    options = _options()
    bench = Bench(
        rounds=options.rounds,
        seconds=options.seconds,
        sizes=sorted(set(options.sizes)),
        dialect=options.dialect,
        baseline=options.baseline,
        pin_fairness=options.pin_fairness,
        progress=_progress,
    )
    if cores() is None:
        bench.missing.append("pinning: there is one core, or no way to choose, so all share it")
    figures = {}
    for name in dict.fromkeys(options.only or PARTS):
        part = PARTS[name]
        try:
            figures[name] = part.measure(bench)
        except NotMeasured as reason:
            bench.missing.append(f"{name}: {reason}")
            continue
        _progress("")
        if not options.json:
            say(*part.show(figures[name]), "")
    _progress("")
    if options.json:
        about = {"cores": os.cpu_count(), "rounds": bench.rounds, "seconds": bench.seconds}
        document = {**about, **figures, "not_measured": bench.missing}
        say(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    elif bench.missing:
        say("Not measured:", *(f"  {line}" for line in dict.fromkeys(bench.missing)))


if __name__ == "__main__":
    for each in _STOPPING:
        signal.signal(each, _stop)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
