"""What it costs to tell of calls: a bridge with everything on beside one that tells nobody."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from tests.bench.candidates import Candidate, bridge
from tests.bench.load import Load, require_wrk
from tests.bench.machine import NotMeasured, await_idle, cpu_seconds
from tests.bench.side_by_side import cold
from tests.bench.stage import Bench, stage

NOBODY, LINE, EVERYTHING = "nobody", "log line", "everything"
TRACES, CAPTURE = "everything, traces", "everything, captured"


@dataclass(frozen=True)
class Telling:
    """What a bridge costs with lists of a size, in pairs with one that tells nobody."""

    messages: int
    told: str
    per_second: float
    """Lists; the median of the rounds."""
    of_nobody: float
    """The ratio to the bridge that tells nobody in the same round, the median of the rounds."""
    cpu_seconds: float
    """Of the whole process a call, its threads in; the median."""
    more_cpu_seconds: float
    """How much more that is in the same round, the median."""
    failed: int


class _Turn(NamedTuple):
    load: Load
    cpu_seconds: float


def telling(bench: Bench) -> list[Telling]:
    """Measure bridges that tell of their calls, and one that does not, in turns.

    Raises:
        NotMeasured: nginx or wrk is missing, or no bridge starts that tells nobody.
    """
    require_wrk()
    turns: defaultdict[tuple[int, str], list[_Turn]] = defaultdict(list)
    with stage(bench, bench.sizes) as set_up:
        startings: Mapping[str, Mapping[str, Any]] = {
            NOBODY: {"told": "nobody"},
            LINE: {"told": "line"},
            EVERYTHING: {},
            TRACES: {
                "settings": {
                    "HARVEST_BRIDGE_TRACES": "otlp",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": set_up.upstream.removesuffix("/v2"),
                }
            },
            CAPTURE: {"captured": True},
        }
        where = (None, set_up.upstream, set_up.folder, bench.server_core)
        candidates: list[Candidate] = []
        for name, options in startings.items():
            started = bench.start(set_up.stack, name, bridge(name, *where, **options))
            candidates.extend([started] if started else [])
        if not candidates or candidates[0].name != NOBODY:
            raise NotMeasured("there is no bridge that tells nobody")
        for size in bench.sizes:
            for turn in range(bench.rounds):
                # Nobody is always the first, nor always the one after the same.
                for candidate in candidates if turn % 2 else candidates[::-1]:
                    bench.progress(f"{size} messages, round {turn + 1}: {candidate.name}")
                    await_idle(candidate.pid)
                    before = cpu_seconds(candidate.pid)
                    load = cold(bench, set_up, candidate, size)
                    used = cpu_seconds(candidate.pid) - before
                    turns[size, candidate.name].append(_Turn(load, used / max(1, load.answered)))
    return [_telling(size, name, turns[size, name], turns[size, NOBODY]) for size, name in turns]


def _telling(size: int, name: str, turns: list[_Turn], untold: list[_Turn]) -> Telling:
    pairs = list(zip(turns, untold, strict=True))
    return Telling(
        size,
        name,
        median(turn.load.per_second for turn in turns),
        median(turn.load.per_second / other.load.per_second for turn, other in pairs),
        median(turn.cpu_seconds for turn in turns),
        median(turn.cpu_seconds - other.cpu_seconds for turn, other in pairs),
        sum(turn.load.failed for turn in turns),
    )
