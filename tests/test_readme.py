"""README.md is true: its call gives its answer, its settings are the settings, its links lead on."""

import asyncio
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import aiohttp
import pytest
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from bridge.cli import app
from bridge.settings import RELOADED, Settings, WrongSetting, load
from bridge.v1.xsd import schema_directory
from tests.support.commands import options_of
from tests.support.legacy import LegacyClient

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
CONFIGURATION = (REPOSITORY / "docs" / "configuration.md").read_text()
SAMPLE_FILE = REPOSITORY / "deploy" / "harvest-bridge.toml"
SAMPLE = SAMPLE_FILE.read_text()
WHO_WE_ARE = {"contact": "ops@acme.dev", "account_id": 1000}
"""What an operator has to put in."""


async def test_the_call_gives_the_answer_that_is_printed(bridge: LegacyClient) -> None:
    shown = re.search(
        r"```console\n\$ curl -u (\S+) http://[^/]+(\S+)\n(.*?)```", README, re.DOTALL
    )
    assert shown
    assert shown[1] == "any@example.com:sandbox-token"

    assert (await bridge.get(shown[2])).body.decode() == shown[3]


def default_of(field: FieldInfo) -> str:
    """How the table writes a default."""
    if field.is_required():
        return "must be set"
    if field.default in {None, (), frozenset()}:
        return "–"
    value = field.default
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def test_the_table_of_settings() -> None:
    told = re.findall(r"^\| `(\w+)` \| (.+?) \| (\w+) \| (.+) \|$", CONFIGURATION, re.MULTILINE)

    assert told == [
        (
            name,
            default_of(field),
            "reload" if name in RELOADED else "restart",
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]


def test_the_sample_file_names_every_setting_with_its_default() -> None:
    everything = tomllib.loads(re.sub(r"^#(?=\w+ = )", "", SAMPLE, flags=re.MULTILINE))

    assert set(everything) == set(Settings.model_fields)
    everything |= WHO_WE_ARE
    for name, field in Settings.model_fields.items():
        if default_of(field).startswith("`"):
            assert getattr(Settings(**everything), name) == field.default


def test_a_copy_of_the_sample_file_does_not_start_before_it_says_whose_it_is() -> None:
    """It would call the real Harvest as somebody else."""
    with pytest.raises(WrongSetting) as raised:
        load(Settings, {}, SAMPLE_FILE)

    placeholder = "a placeholder stands here: put your own value in its place"
    told = str(raised.value).split("; ")
    assert [each.partition(" (")[0] for each in sorted(told)] == [
        f"account_id: {placeholder}",
        f"contact: {placeholder}",
    ]
    assert load(Settings, WHO_WE_ARE, SAMPLE_FILE).account_id == 1000


def blocks(page: str) -> list[str]:
    """The commands of the page's code blocks, with continued lines joined."""
    code = "\n".join(re.findall(r"^ *```sh\n(.*?)```", page, re.DOTALL | re.MULTILINE))
    return [line.strip() for line in re.sub(r"\\\n|(?<=\|)\n", "", code).splitlines()]


def commands(page: str) -> list[list[str]]:
    """The commands of the bridge that a page gives: in its blocks, at a prompt, or within a text."""
    at_prompts = re.findall(r"^\$ ((?:.*\\\n)*.*)$", page, re.MULTILINE)
    text = re.sub(r"^ *```.*?^ *```", "", page, flags=re.DOTALL | re.MULTILINE)
    lines = [
        *blocks(page),
        *(re.sub(r"\\\n", "", each) for each in at_prompts),
        *re.findall(r"`(harvest-bridge [^`]+)`", text.replace("\n", " ")),
    ]
    given = (each.strip() for line in lines for each in re.split(r" \| ", line))
    return [
        shlex.split(each, comments=True)[1:] for each in given if each.startswith("harvest-bridge ")
    ]


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "bridge/sandbox/README.md",
        *(f"docs/{name}.md" for name in ("brownouts", "capture", "cutover", "pass-through")),
        *(f"docs/{name}.md" for name in ("shadow", "verify")),
    ],
)
def test_every_command_has_the_flags_that_it_is_shown_with(page: str) -> None:
    shown = commands((REPOSITORY / page).read_text())

    assert shown
    for name, *arguments in shown:
        known = options_of(name, arguments)
        assert {each for each in arguments if each.startswith("--")} <= known, name


def test_the_six_steps_are_those_that_are_rehearsed() -> None:
    """Each with the commands that it gives; what they print is in tests/contract/test_six_steps.py."""
    steps = re.findall(
        r"^\| (?:(\d)\. )?(.*?) \| (.*?) \|", README.split("## From v1 to v2")[1], re.MULTILINE
    )
    given = [{name for name, *_ in commands(row)} for number, _, row in steps if number]

    assert given == [
        {"serve"},
        {"integrations"},
        {"capture", "export", "verify"},
        {"switch", "shadow"},
        {"switch"},
        {"brownout"},
    ]


async def test_what_is_translated_by_hand_is_what_the_bridge_answers(
    sandbox: str, bridge: LegacyClient
) -> None:
    (line,) = (each for each in blocks(README) if "harvest-bridge translate" in each)
    curl, _, translate = line.partition("|")
    headers = dict(each.split(": ") for each in re.findall(r"-H '([^']+)'", curl))
    path = curl.split()[-1].partition("/v2")[2]
    async with aiohttp.ClientSession(headers=headers) as session:
        v2 = await (await session.get(sandbox + path)).read()

    done = CliRunner().invoke(app, shlex.split(translate)[1:], input=v2, catch_exceptions=False)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout_bytes == (await bridge.get("/invoices/1420/messages")).body


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("given", "flags"),
    [
        ([], ""),
        (["PORT=9080"], " --port 9080"),
        (
            ["PORT=9080", "SANDBOX_PORT=9081", "ADMIN_PORT=9090"],
            " --port 9080 --sandbox-port 9081 --admin-port 9090",
        ),
    ],
)
def test_the_demo_takes_other_ports_and_prints_one_line(given: list[str], flags: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "demo", *given],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )

    assert done.stdout.decode().splitlines()[-1] == f".venv/bin/harvest-bridge demo{flags}"


PAGES = sorted(
    page.relative_to(REPOSITORY).as_posix()
    for pages in (
        "*.md",
        *(f"{room}/**/*.md" for room in ("bridge", "deploy", "docs", "schemas", "tests")),
    )
    for page in REPOSITORY.glob(pages)
)


def anchors(page: Path) -> set[str]:
    """Return what leads to the headings of a page, as GitHub has it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_their_headings(page: str) -> None:
    path = REPOSITORY / page
    for link in re.findall(r"\]\(([^):]+)\)", path.read_text()):
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def test_readme_leads_to_every_page_of_the_documentation() -> None:
    pages = {f"docs/{page.name}" for page in (REPOSITORY / "docs").iterdir()}

    assert pages == set(re.findall(r"\]\((docs/[^)#]+)", README))


@pytest.mark.skipif(shutil.which("xmllint") is None, reason="needs xmllint")
@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/invoice/1420/messages", "invoice-messages/classic-list"),
        ("/invoices/1420/messages", "invoice-messages/final-list"),
        ("/invoice/1420/messages/409", "invoice-messages/classic-item"),
        ("/invoices/1420/messages/409", "invoice-messages/final-item"),
        ("/invoice/1420/payments", "invoice-payments/classic-list"),
        ("/invoices/1420/payments", "invoice-payments/final-list"),
    ],
)
async def test_answers_validate_with_xmllint(bridge: LegacyClient, path: str, schema: str) -> None:
    answer = await bridge.get(path)
    xsd = schema_directory() / f"{schema}.xsd"

    done = await asyncio.to_thread(
        subprocess.run,
        ["xmllint", "--noout", "--schema", str(xsd), "-"],
        input=answer.body,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
