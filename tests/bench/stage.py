"""What every measurement needs: the options, and servers set up for it and taken down after it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bridge.v1.dialects import Dialect
from tests.bench.candidates import Candidate, bridge
from tests.bench.machine import NotMeasured, cores
from tests.bench.static_upstream import Ids, static_upstream

BRIDGE, BASELINE = "bridge", "baseline"
_PATHS = {Dialect.CLASSIC: "/invoice/{id}/messages", Dialect.FINAL: "/invoices/{id}/messages"}


@dataclass
class Bench:
    """What is asked for, and what could not be done."""

    rounds: int
    seconds: int
    """Of each measurement in a round."""
    sizes: Sequence[int]
    dialect: Dialect
    baseline: Path | None
    """A checkout whose bridge is measured as well."""
    pin_fairness: bool
    progress: Callable[[str], None]
    missing: list[str] = field(default_factory=list)

    @property
    def load_core(self) -> int | None:
        """The core of load and upstream."""
        both = cores()
        return both and both[0]

    @property
    def server_core(self) -> int | None:
        """The core of the server under test."""
        both = cores()
        return both and both[1]

    @property
    def bridges(self) -> Mapping[str, Path | None]:
        """The checkouts whose bridges are measured, by name; None: this one."""
        return {BRIDGE: None, **({BASELINE: self.baseline} if self.baseline else {})}

    @property
    def path(self) -> str:
        """The path to call, with `{id}`."""
        return _PATHS[self.dialect]

    def start(
        self, stack: ExitStack, name: str, starting: AbstractContextManager[Candidate]
    ) -> Candidate | None:
        """Start a candidate that ends with `stack`; None, and a line, if that cannot be."""
        self.progress(f"starting {name}")
        try:
            return stack.enter_context(starting)
        except NotMeasured as reason:
            self.missing.append(f"{name}: {reason}")
            return None

    def start_bridges(
        self, stack: ExitStack, upstream: str, folder: Path, core: int | None
    ) -> list[Candidate]:
        """Start the bridges that are to be compared.

        Raises:
            NotMeasured: none starts.
        """
        started = [
            self.start(stack, name, bridge(name, checkout, upstream, folder, core))
            for name, checkout in self.bridges.items()
        ]
        found = [candidate for candidate in started if candidate]
        if not found:
            raise NotMeasured("no bridge starts")
        return found


class Stage(NamedTuple):
    """Where servers are started."""

    folder: Path
    upstream: str
    """Its base URL."""
    ids: Ids
    stack: ExitStack


@contextmanager
def stage(bench: Bench, sizes: Sequence[int]) -> Iterator[Stage]:
    """Set up a folder and an upstream with lists of these sizes; all ends with the block.

    Raises:
        NotMeasured: there can be no such upstream.
    """
    with TemporaryDirectory(prefix="harvest-bridge-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        upstream = stack.enter_context(static_upstream(sizes, folder, bench.load_core))
        yield Stage(folder, upstream, Ids(sizes), stack)


def ratios(figures: Mapping[str, float], name: str, others: Sequence[str]) -> dict[str, float]:
    """Return the figure of `name` over those of `others`, as far as there are any."""
    return {
        other: figures[name] / figures[other]
        for other in others
        if other != name and figures.get(other)
    }
