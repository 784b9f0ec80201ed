"""All candidates side by side: how many lists a second each answers, alone on a core."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from tests.bench.candidates import Candidate, bridge, flask_gunicorn, node_express, pass_through
from tests.bench.load import WARM, Calls, Load, call_in_turn, load, require_wrk
from tests.bench.machine import NotMeasured, await_idle
from tests.bench.stage import BASELINE, BRIDGE, Bench, Stage, ratios, stage

PASS_THROUGH, EXPRESS, FLASK = "pass-through", "Node express", "Flask"
OTHERS = (PASS_THROUGH, EXPRESS, FLASK, f"{BASELINE}, cold")
"""What bridges are compared with."""

_PEERS = {PASS_THROUGH: pass_through, EXPRESS: node_express, FLASK: flask_gunicorn}
_POLLED = 24
"""Lists that are polled: more than connections, lest two ask for the same at once."""
_LONG = 500
"""Messages."""


@dataclass(frozen=True)
class Speed:
    """How fast a candidate answers with lists of a size."""

    messages: int
    candidate: str
    per_second: float
    """The median of the rounds."""
    rounds: list[float]
    failed: int
    """Calls that got no answer, or not a 200."""
    of: dict[str, float]
    """Ratios to other candidates."""


def table(bench: Bench) -> list[Speed]:
    """Measure all candidates.

    Raises:
        NotMeasured: nginx or wrk is missing.
    """
    require_wrk()
    loads: defaultdict[tuple[int, str], list[Load]] = defaultdict(list)
    with stage(bench, bench.sizes) as set_up:
        candidates = _candidates(bench, set_up)
        for size in bench.sizes:
            for turn in range(bench.rounds):
                for name, measure in candidates.items():
                    bench.progress(f"{size} messages, round {turn + 1}: {name}")
                    loads[size, name].append(measure(size))
    return [speed for size in bench.sizes for speed in _speeds(size, list(candidates), loads)]


def _speeds(
    size: int, names: list[str], loads: defaultdict[tuple[int, str], list[Load]]
) -> list[Speed]:
    medians = {name: median(load.per_second for load in loads[size, name]) for name in names}
    return [
        Speed(
            size,
            name,
            medians[name],
            [load.per_second for load in loads[size, name]],
            sum(load.failed for load in loads[size, name]),
            ratios(medians, name, OTHERS[:1] if name in _PEERS else OTHERS),
        )
        for name in names
    ]


def _candidates(bench: Bench, set_up: Stage) -> dict[str, Callable[[int], Load]]:
    """Start all, see that each answers in full, and return how each is measured."""
    where = (set_up.upstream, set_up.folder, bench.server_core)
    startings = {name: start(name, *where) for name, start in _PEERS.items()}
    for name, checkout in bench.bridges.items():
        startings[name] = bridge(name, checkout, *where)
    found: dict[str, Callable[[int], Load]] = {}
    for name, starting in startings.items():
        candidate = bench.start(set_up.stack, name, starting)
        if candidate is None or not _answers(bench, set_up, candidate):
            continue
        once = partial(cold, bench, set_up, candidate)
        found[name if name in _PEERS else f"{name}, cold"] = once
        if name == BRIDGE:
            found[f"{name}, polled"] = partial(_polled, bench, set_up, candidate)
    return found


def _answers(bench: Bench, set_up: Stage, candidate: Candidate) -> bool:
    mark = b'"recipients"' if candidate.name == PASS_THROUGH else b"<invoice-message>"
    for size in bench.sizes:
        calls = Calls(bench.path, set_up.ids.unused(size))
        try:
            found = call_in_turn(candidate.port, calls, 1).count(mark)
        except NotMeasured as reason:
            bench.missing.append(f"{candidate.name}: {reason}")
            return False
        if found != size:
            bench.missing.append(f"{candidate.name}: it answers with {found} of {size} messages")
            return False
    return True


def cold(bench: Bench, set_up: Stage, candidate: Candidate, size: int) -> Load:
    """Ask for lists of a size, none of them twice."""
    calls = Calls(bench.path, set_up.ids.unused(size))
    return _load(bench, candidate, calls, size)


def _polled(bench: Bench, set_up: Stage, candidate: Candidate, size: int) -> Load:
    calls = Calls(bench.path, set_up.ids.polled(size), among=_POLLED)
    call_in_turn(candidate.port, calls, _POLLED)
    return _load(bench, candidate, calls, size)


def _load(bench: Bench, candidate: Candidate, calls: Calls, size: int) -> Load:
    # Of long lists there are few a second, which may come in bursts: it takes time to see several.
    times = 2 if size >= _LONG else 1
    result = load(candidate.port, calls, times * bench.seconds, bench.load_core, times * WARM)
    await_idle(candidate.pid)
    return result
