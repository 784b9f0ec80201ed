"""`harvest-bridge verify`: does the bridge answer recorded calls as v1 did?

What a recording is, and how it is verified, is in `bridge.verifying`; how answers are compared, in
`bridge.comparing`.
"""

import asyncio
import json as json_module
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from bridge.cli.terminal import JSON, fail, failing_at, print_table, printable, to_json
from bridge.comparing import Difference, Kind, Paths, Result, WrongPath
from bridge.private_file import UnusableFile, read_private
from bridge.secret import Secret
from bridge.v1.dialects import Dialect
from bridge.verifying.asking import PACE, Asking, Pace, Unreachable
from bridge.verifying.core import RecordedV2
from bridge.verifying.har import Recording, UnusableRecording
from bridge.verifying.junit import Report
from bridge.verifying.outcome import KNOWN_REASONS, Outcome, Totals
from bridge.verifying.reads import MEANINGS, Plan, plan
from bridge.verifying.running import Judging, Left, from_bridge, from_recording

app = typer.Typer(rich_markup_mode=None)

LONGEST_CREDENTIAL = 4096
"""Bytes."""


@app.command()
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings of v1: HAR 1.2, as browsers and proxies write it, and export."
        ),
    ],
    against: Annotated[
        str | None, typer.Option(help="The running bridge to ask, such as http://127.0.0.1:8080.")
    ] = None,
    v2: Annotated[
        list[Path] | None,
        typer.Option(
            help="A recording of v2 instead, in HAR 1.2; nothing is asked then. A capture's is the "
            "same file."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="A path that may differ, such as /payments/payment/notes or //@type."),
    ] = None,
    credential: Annotated[
        str | None,
        typer.Option(
            help="With --against: who asks, whatever the recording says. env:NAME, file:PATH or "
            "ask, for a login and password with a colon between them, or a token."
        ),
    ] = None,
    pace: Annotated[
        float, typer.Option(min=0.01, max=1000, help="With --against: calls in a second, at most.")
    ] = PACE,
    dialect: Annotated[
        Dialect | None,
        typer.Option(help="With --v2: the dialect to answer in, whatever the path says."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file, too.")] = None,
    values: Annotated[
        bool, typer.Option("--values/--no-values", help="Show the values that differ.")
    ] = True,
    json: JSON = False,
) -> None:
    """Say whether the bridge answers recorded calls as v1 did.

    Reads are asked again; writes never are. The exit status is 0 if all answers are equal, but for
    known differences, 1 if one is not or cannot be compared, and 2 if nothing was.
    """
    if (against is None) == (not v2):
        fail("one of --against and --v2 has to be given")
    if against is None and credential is not None:
        fail("--credential goes with --against")
    if against is not None and dialect is not None:
        fail("--dialect goes with --v2: a running bridge has its own")
    if against is not None:
        _require_url(against)
    with failing_at(WrongPath, UnusableRecording):
        judging = Judging(Paths(ignore or ()), values)
        # A capture is both, and opened once.
        opened = {path: Recording(path) for path in dict.fromkeys([*files, *(v2 or ())])}
        planned = plan([opened[path] for path in files], drops_repeated=against is not None)
        recorded = RecordedV2(opened[path] for path in v2 or ())
    if against is None and not recorded:
        fail("the recording of v2 has no call to it")
    telling = _Telling(planned, values=values, json=json, report=junit)
    if against is None:
        for each in from_recording(planned.reads, recorded, judging, dialect):
            telling.tell(each)
    else:
        who = None if credential is None else _credential(credential)
        with failing_at(Unreachable):
            asyncio.run(_ask(against, pace, who, planned, judging, telling))
    telling.conclude()


async def _ask(
    base_url: str,
    per_second: float,
    credential: Secret | None,
    planned: Plan,
    judging: Judging,
    telling: "_Telling",
) -> None:
    def waits(seconds: float) -> None:
        typer.echo(f"The bridge asks to wait for {seconds:.0f} seconds.", err=True)

    count = len(planned.reads)
    span = timedelta(seconds=round(count / per_second))
    typer.echo(f"Asking {base_url}, calls: {count:,}. It takes {span} or more.", err=True)
    pace = Pace(per_second, asyncio.get_running_loop().time)
    async with Asking(base_url, pace, credential, waits) as asking:
        async for each in from_bridge(planned.reads, asking, judging):
            telling.tell(each)


def _require_url(text: str) -> None:
    """End the command unless this is the URL of a server."""
    try:
        url = urlsplit(text)
        is_one = url.scheme in {"http", "https"} and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        is_one = False
    else:
        is_one = is_one and not (url.query or url.fragment or url.username)
    if not is_one:
        fail("--against: must be a URL such as http://127.0.0.1:8080")
    if url.scheme == "http" and url.hostname not in {"localhost", "127.0.0.1", "::1"}:
        typer.echo("Without TLS, everybody on the way reads the credentials.", err=True)


def _credential(reference: str) -> Secret:
    source, _, name = reference.partition(":")
    if reference == "ask":
        text = typer.prompt("Login and password, with a colon between, or a token", hide_input=True)
    elif source == "env" and name:
        text = os.environ.get(name, "")
        if not text:
            fail(f"--credential: the environment variable {name} is not set, or empty")
    elif source == "file" and name:
        with failing_at(UnusableFile):
            try:
                octets = read_private(Path(name), LONGEST_CREDENTIAL)
            except OSError as error:
                fail(f"--credential: {name}: {error.strerror}")
        text = octets.decode(errors="replace").removesuffix("\n").removesuffix("\r")
    else:
        fail("--credential: must be env:NAME, file:PATH or ask")
    if not text or not text.isprintable():
        fail("--credential: holds neither a login with a password nor a token")
    return Secret(text)


class _Telling:
    """Tells what verifying comes to, as it goes and in the end."""

    def __init__(self, planned: Plan, *, values: bool, json: bool, report: Path | None) -> None:
        self._totals = Totals(planned.skipped)
        self._values = values
        self._calls: list[dict[str, Any]] | None = [] if json else None
        self._path = report
        self._report = None if report is None else Report(datetime.now(UTC))
        self._missing: dict[str, None] = {}

    def tell(self, each: Outcome | Left) -> None:
        """Tell of a call."""
        if isinstance(each, Left):
            self._totals.skip(each.reason, each.read)
            if each.detail and len(self._missing) < MOST_MISSING:
                self._missing[each.detail] = None
            return
        self._totals.add(each)
        if self._report is not None:
            self._report.add(each, self._lines(each))
        if self._calls is not None:
            self._calls.append(_facts(each))
        elif each.result is not Result.EQUAL:
            typer.echo(printable(f"{_verb(each)}: {_title(each)}"))
            for line in self._lines(each):
                typer.echo(f"  {line}")
            typer.echo()

    def _lines(self, outcome: Outcome) -> Iterator[str]:
        """Yield lines that say how a call differs; nothing in them harms a terminal."""
        if outcome.comparison is None or outcome.comparison.reason is not None:
            yield printable(outcome.reason)
            return
        for each in outcome.comparison.differences:
            yield printable(f"{each.spot.kind} {each.path}")
            for side, value in _sides(each, self._values):
                yield f"    {side:6}  {_spelled(value)}"
        more = sum(outcome.comparison.counted.values()) - len(outcome.comparison.differences)
        if more:
            yield f"and {more:,} more"

    def conclude(self) -> None:
        """Tell of all, and end the command with its exit status."""
        totals = self._totals
        if self._report is not None and self._path is not None:
            try:
                self._path.write_bytes(self._report.document(totals.skipped))
            except OSError as error:
                fail(f"--junit: {self._path}: {error.strerror}")
        if self._calls is not None:
            typer.echo(to_json({**_sums(totals), "calls": self._calls}))
        else:
            self._print_sums()
        if not totals.compared:
            fail("there is nothing to compare")
        if not totals.are_equal:
            raise typer.Exit(1)

    def _print_sums(self) -> None:
        totals = self._totals
        if totals.spots:
            ranked = totals.spots.most_common()
            rows = ((each.kind.value, each.path, str(calls)) for each, calls in ranked)
            print_table(("what differs", "where", "calls"), rows)
            typer.echo()
        if totals.known:
            rows = ((name, str(times), KNOWN_REASONS[name]) for name, times in totals.known.items())
            print_table(("known difference", "times", "why"), rows)
            typer.echo()
        if totals.skipped:
            skipped = sorted(totals.skipped.items())
            print_table(
                ("not compared", "calls", "because"),
                ((call or "others", str(count), MEANINGS[why]) for (why, call), count in skipped),
            )
            typer.echo()
        for missing in self._missing:
            typer.echo(printable(f"not in the recording of v2: {missing}"))
        typer.echo(str(totals))


MOST_MISSING = 20
"""Calls to v2 that are named where a recording lacks them."""


def _verb(outcome: Outcome) -> str:
    return "different" if outcome.result is Result.DIFFERENT else "not compared"


def _title(outcome: Outcome) -> str:
    read = outcome.read
    told = [read.host, read.when, f"{read.recording.path}, entry {read.number}"]
    if read.has_stand_ins:
        told.append("with stand-ins")
    if outcome.request_id is not None:
        told.append(f"request id {outcome.request_id}")
    return f"{read.method} {read.target} ({'; '.join(filter(None, told))})"


def _sides(difference: Difference, wants_values: bool) -> Iterator[tuple[str, str | None]]:
    told = {"v1": difference.v1, "bridge": difference.bridge}
    is_of_one = difference.spot.kind in {Kind.ORDER, Kind.MISSING, Kind.ADDED}
    is_of_both = wants_values and not is_of_one
    yield from ((side, value) for side, value in told.items() if is_of_both or value is not None)


def _spelled(value: str | None) -> str:
    return printable(json_module.dumps(value, ensure_ascii=False))


def _facts(outcome: Outcome) -> dict[str, Any]:
    read, comparison = outcome.read, outcome.comparison
    v1, bridge = outcome.statuses
    return {
        "method": read.method,
        "target": read.target,
        "host": read.host,
        "when": read.when,
        "file": str(read.recording.path),
        "entry": read.number,
        "stand_ins": read.has_stand_ins,
        "result": outcome.result,
        "reason": outcome.reason or None,
        "status": {"v1": v1 or None, "bridge": bridge or None},
        "request_id": outcome.request_id,
        "differences": [
            {"kind": each.spot.kind, "path": each.path, "v1": each.v1, "bridge": each.bridge}
            for each in (comparison.differences if comparison else ())
        ],
        "counted": [
            {"kind": spot.kind, "path": spot.path, "times": times}
            for spot, times in (comparison.counted.items() if comparison else ())
        ],
        "known": comparison.known if comparison else {},
    }


def _sums(totals: Totals) -> dict[str, Any]:
    return {
        "summary": str(totals),
        "compared": totals.compared,
        **{result.value: totals.results[result] for result in Result},
        "differ": [
            {"kind": spot.kind, "path": spot.path, "calls": calls}
            for spot, calls in totals.spots.most_common()
        ],
        "known": totals.known,
        "skipped": [
            {"reason": why, "call": call, "calls": count}
            for (why, call), count in sorted(totals.skipped.items())
        ],
    }
