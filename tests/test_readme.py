"""README.md is true: its call gives its answer, its settings are the settings, its links lead on."""

import asyncio
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from bridge.settings import Settings
from bridge.v1.xsd import schema_directory
from tests.support.legacy import LegacyClient

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
SAMPLE = (REPOSITORY / "deploy" / "harvest-bridge.toml").read_text()


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
    if field.default in {None, ()}:
        return "–"
    value = field.default
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def test_the_table_of_settings() -> None:
    told = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", README, re.MULTILINE)

    assert told == [
        (name, default_of(field), field.description)
        for name, field in Settings.model_fields.items()
    ]


def test_the_sample_file_names_every_setting_with_its_default() -> None:
    everything = tomllib.loads(re.sub(r"^#(?=\w+ = )", "", SAMPLE, flags=re.MULTILINE))

    assert set(everything) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if default_of(field).startswith("`"):
            assert getattr(Settings(**everything), name) == field.default


def test_the_sample_file_loads() -> None:
    assert Settings(**tomllib.loads(SAMPLE)).account_id == 1000


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "bridge/sandbox/README.md",
        "schemas/README.md",
        "tests/bench/README.md",
    ],
)
def test_links_to_files_lead_to_files(page: str) -> None:
    path = REPOSITORY / page
    for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


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
