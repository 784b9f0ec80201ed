"""deploy/README.md is true: one machine's steps are run as they stand, and all that it names is there.

The figures of its examples are those of its formulas.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from math import ceil
from pathlib import Path

import aiohttp
import pytest

from bridge.identity.callers import Way
from bridge.record.log.database import load_key, open_database
from bridge.record.log.events import CONNECTION_EVENTS
from bridge.settings import PREFIX, Settings
from tests.deploy.test_monitoring import ALERTS
from tests.support.books import enter, write_token
from tests.support.commands import options_of
from tests.support.deployed import DEPLOY, ROOT, needs
from tests.support.gateways import free_port
from tests.support.logged import events
from tests.support.running import LOOPBACK, running_service
from tests.support.tls_fronts import certificate
from tests.support.upstream import ScriptedUpstream

GUIDE = (DEPLOY / "README.md").read_text()
CODE = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
IN_THE_TEXT = re.findall(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", GUIDE)
ENVIRONMENTS_BIN = Path(sys.executable).parent
MARK = "<!-- end of block -->"


# One machine, step by step.

(REHEARSED,) = re.findall(
    r"<!-- Rehearsed by .*? -->\n(.*?)<!-- Rehearsed until here. -->", GUIDE, re.DOTALL
)
STEPS = re.findall(
    r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", REHEARSED, re.DOTALL | re.MULTILINE
)


def moved(text: str, root: Path, ports: dict[str, int]) -> str:
    """Return commands of the guide, or what they print, as of a machine whose root is elsewhere.

    There is one user, and nothing is installed: both take root and the internet.
    """
    for folder in ("/etc/harvest-bridge", "/var/lib/harvest-bridge"):
        text = text.replace(folder, f"{root}{folder}")
    for port, free in ports.items():
        text = re.sub(rf"(?<=[: =]){port}\b", str(free), text)
    text = re.sub('^as=".*"$', "as=", text, flags=re.MULTILINE)
    text = re.sub(r"(-g|chgrp) harvest-bridge\b", rf"\1 {os.getgid()}", text)
    # The sandbox is told its port, which is its default in the guide.
    return text.replace(
        "harvest-bridge sandbox ", f"harvest-bridge sandbox --port {ports['8081']} "
    )


def as_printed(told: str) -> str:
    """Return a pattern of what a block prints: … is whatever there is."""
    return "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", told))


@pytest.mark.slow
@needs("curl")
@needs("openssl")
def test_the_steps_of_one_machine_do_what_the_guide_says(tmp_path: Path) -> None:
    ports = {port: free_port() for port in ("8081", "8090", "8443")}
    for folder in ("etc/harvest-bridge", "var/lib/harvest-bridge"):
        (tmp_path / folder).mkdir(parents=True)
    commands = "".join(f"{block}echo '{MARK}'\n" for block, _ in STEPS)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(PREFIX)
    } | {"PATH": f"{ENVIRONMENTS_BIN}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8",
         f"{PREFIX}ADMIN_PORT": str(ports["8090"])}  # fmt: skip

    output = tmp_path / "printed"
    with output.open("w") as file, subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", moved(commands, tmp_path, ports)],
        env=environment, stdout=file, stderr=subprocess.STDOUT, process_group=0,
    ) as shell:  # fmt: skip
        try:
            status = shell.wait()  # the test's own timeout is the limit
        finally:
            with suppress(ProcessLookupError):  # whom a failure has left behind
                os.killpg(shell.pid, signal.SIGKILL)

    printed = output.read_text()
    assert status == 0, printed
    for (block, told), came in zip(STEPS, printed.split(f"{MARK}\n")[:-1], strict=True):
        assert re.fullmatch(as_printed(moved(told, tmp_path, ports)), came), (block, came)
    assert list((tmp_path / "var/lib/harvest-bridge").iterdir()) == []


def test_the_steps_are_those_that_matter() -> None:
    commands = "".join(block for block, _ in STEPS)

    for command in ("config", "credentials add", "check", "sandbox", "serve", "journal", "calls"):
        assert f"harvest-bridge {command} " in commands.replace("\n", " ")


# What it names.


def joined(block: str) -> str:
    """Return a block of commands without comments, with continued lines joined."""
    return re.sub(r"(^|\s)#.*$", "", re.sub(r"\\\n\s*", "", block), flags=re.MULTILINE)


def commands_shown() -> Iterator[str]:
    """Yield what stands behind each `harvest-bridge` in blocks and in the text."""
    for text in [*map(joined, CODE), *IN_THE_TEXT]:
        for line in re.split(r"[\n|;]|&&", text):
            found = re.match(
                r"\s*(?:\$as )?(?:\S+/bin/|.* exec \S+ (?:-- )?)?harvest-bridge ([^)&]+)", line
            )
            if found:
                yield re.sub(r"\s+\d?[<>].*", "", found[1]).strip()


SHOWN = sorted(set(commands_shown()))


@pytest.mark.parametrize("shown", SHOWN)
def test_every_command_is_one_and_has_the_flags_that_it_is_shown_with(shown: str) -> None:
    name, *arguments = shlex.split(shown)
    if name == "--version":
        return
    known = options_of(name, arguments)

    assert {each for each in arguments if each.startswith("-")} <= known


def test_the_commands_that_an_operator_needs_are_shown() -> None:
    names = {each.split()[0] for each in SHOWN}

    assert {"calls", "capture", "check", "config", "credentials", "export", "integrations",
            "journal", "plan", "sandbox", "serve", "show", "--version"} <= names  # fmt: skip


def test_every_variable_that_it_names_is_a_settings() -> None:
    named = set(re.findall(rf"\b{PREFIX}([A-Z_]+)", GUIDE))

    assert named - {"CONFIG"} <= {name.upper() for name in Settings.model_fields}


def test_every_setting_that_it_sets_is_one() -> None:
    table = "\n".join(line for line in joined("\n".join(CODE)).splitlines())
    named = {*re.findall(r"^([a-z_]+) = ", table, re.MULTILINE)}
    named |= {name for each in IN_THE_TEXT for name in re.findall(r"^([a-z_]+) = ", each)}

    assert len(named) > 10
    assert named <= Settings.model_fields.keys()


def names_in(cells: Iterable[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}


def rows(*headings: str) -> list[list[str]]:
    """Return the cells of each row of the table that has these headings."""
    head = f"| {' | '.join(headings)} |\n".replace("|  |", "| |")
    table = GUIDE.partition(head)[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[1:]
    ]


def test_every_word_in_code_that_may_be_a_setting_is_one_or_something_else_of_ours() -> None:
    words = {each for each in IN_THE_TEXT if re.fullmatch("[a-z]+(_[a-z]+)+", each)}

    assert words
    assert words <= {*Settings.model_fields, *EVENTS, *OTHER_WORDS, *METRICS}


OTHER_WORDS = {"who_am_i", "not_read_again", "synchronous_commit", "max_connections", "call_days"}


# Operations.


EVENTS = {*(event for event, _ in events()), *CONNECTION_EVENTS}
METRICS = set(re.findall(r"`(harvest_bridge_\w+)`", (ROOT / "docs/metrics.md").read_text()))


def test_every_error_that_is_logged_has_its_row_and_no_other_event() -> None:
    told = names_in(event for event, _, _ in rows("event", "means", "do"))

    assert {event for event, level in events() if level == "error"} <= told
    assert told <= EVENTS


@pytest.mark.parametrize(
    "metric", sorted(set(re.findall(r"harvest_bridge_\w+", GUIDE)) - {"harvest_bridge"})
)
def test_every_metric_that_it_names_is_one(metric: str) -> None:
    assert metric in METRICS


def test_no_entry_is_of_an_alert_that_there_is_not() -> None:
    headings = re.findall(r"^### (HarvestBridge\w+)$", GUIDE, re.MULTILINE)

    assert headings == list(ALERTS)


async def test_the_checks_are_those_of_readyz(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    book = tmp_path / "book.toml"
    token = write_token(tmp_path, "token", "acme-token")
    enter(book, "acme", "jane@acme.example", "old-password", 1000, token)
    shown = certificate(tmp_path)
    shown.key.chmod(0o600)
    async with (
        running_service(
            upstream.base_url,
            book=book,
            auth=frozenset({Way.BOOK}),
            tls_certificate=shown.chain,
            tls_key=shown.key,
        ) as (service, _),
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{service.admin_port}/readyz") as answer,
    ):
        checks = (await answer.json())["checks"]

    assert names_in(check for check, _, _ in rows("check", "fails when", "do")) == set(checks)


def test_the_question_to_the_log_can_be_asked(database: str, tmp_path: Path) -> None:
    (question,) = re.findall(r"^```sql\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    engine = open_database(database, load_key(database, tmp_path / "key"))

    with closing(engine.connect()) as log:
        assert log.exec_driver_sql(question).all() == []
    engine.dispose()


# Where it leads.


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(page: str) -> set[str]:
    without_code = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^):]+)\)", GUIDE))))
def test_every_link_leads_to_a_file_and_a_heading(link: str) -> None:
    file, _, heading = link.partition("#")
    path = DEPLOY / (file or "README.md")

    assert path.exists()
    assert not heading or heading in anchors(path.read_text())


def test_every_file_of_the_sources_that_a_command_names_is_there() -> None:
    named = set(
        re.findall(r"(?<![\w/.])((?:deploy|requirements)/[\w./-]+)", "\n".join(map(joined, CODE)))
    )
    made = {path for path in named if path.startswith("deploy/secrets/")}

    assert named - made
    assert [path for path in sorted(named - made) if not (ROOT / path).exists()] == []


# The figures.


FIGURES = {
    what: float(figure.replace(",", "")) for what, figure, _ in rows("what", "figure", "unit")
}


def test_the_speed_is_what_readme_says() -> None:
    readme = (ROOT / "README.md").read_text()
    told = {
        int(cells[0].replace(",", "")): [cells[4], cells[5]]
        for cells in (
            [cell.strip() for cell in line.strip("| ").split(" | ")]
            for line in re.findall(r"^\| [\d,]+ \|.*$", readme, re.MULTILINE)
        )
    }
    for messages, (new, unchanged) in told.items():
        name = f"{messages:,} message" + ("s" if messages > 1 else "")
        assert FIGURES[f"lists of {name}, on one core"] == float(new.replace(",", ""))
        if messages == 20:
            assert FIGURES["lists that have not changed, of 20 messages"] == float(
                unchanged.replace(",", "")
            )


EXAMPLES = dict(
    zip(
        (1, 100, 3000),
        zip(
            *(cells[1:] for cells in rows("", "1 tenant", "100 tenants", "3,000 tenants")),
            strict=True,
        ),
        strict=True,
    )
)
LINES = [cells[0] for cells in rows("", "1 tenant", "100 tenants", "3,000 tenants")]


@pytest.mark.parametrize("tenants", EXAMPLES)
def test_an_example_is_what_the_formulas_say(tenants: int) -> None:
    told = dict(zip(LINES, EXAMPLES[tenants], strict=True))

    def number(line: str) -> float:
        return float(told[line].replace(",", "").removesuffix(" GB"))

    calls = number("calls a day")
    peak = calls * 0.1 / 3600
    v2 = peak * 1.1
    for_speed = peak / (0.5 * FIGURES["lists of 20 messages, on one core"])
    for_pace = v2 * 0.3 / FIGURES["v2 calls at once"]
    store = told["store"]
    kept = calls * number("days of calls kept") * FIGURES[f"the log, a call, {store}"]
    journal = calls / 10 * 7 * FIGURES[f"the journal, a write, {store}"]
    bridges = 1 if store == "SQLite" else ceil(max(for_speed, for_pace)) + 1

    assert calls == 5000 * tenants
    for line, figure in {
        "calls a second, peak": peak,
        "writes a second, peak": peak / 10,
        "v2 calls a second of one token, peak": v2 / tenants,
        "bridges for speed": for_speed,
        "bridges for v2's pace": for_pace,
        "the log": kept / 1e9,
        "the journal": journal / 1e9,
        "lines a day": calls * FIGURES["a line on standard error"] / 1e9,
    }.items():
        assert number(line) == pytest.approx(figure, rel=0.05), line
    assert number("bridges") == bridges
    assert number("PostgreSQL connections") == (
        0 if store == "SQLite"
        else bridges * FIGURES["the same, while its dashboard is read"] + 10
    )  # fmt: skip
