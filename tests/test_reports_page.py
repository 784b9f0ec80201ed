"""docs/reports.md is true: each command on it is run on the recorded day, and says the same.

What differs from run to run is left out of the comparison: times, ids, and the order of what
happened in one millisecond.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.mixed_clients import Day, record_a_day

PAGE = (Path(__file__).parent.parent / "docs" / "reports.md").read_text()
BLOCKS = re.findall(r"^````console\n\$ (.*?)\n(.*?)^````$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = Path(sys.executable).parent
"""Where `harvest-bridge` is installed."""


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return asyncio.run(record_a_day(tmp_path_factory.mktemp("day")))


def shape(text: str) -> Counter[str]:
    """Return how often each line is there, but for what is of one day."""
    return Counter(
        re.sub(r"\b[0-9a-f]{12,}\b|\d+", "0", line) for line in text.strip().splitlines()
    )


@pytest.mark.parametrize(("command", "told"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_a_command_of_the_page_says_what_the_page_says(day: Day, command: str, told: str) -> None:
    environment = {
        **os.environ,
        "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        "HARVEST_BRIDGE_DATABASE": day.database,
    }
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert shape(done.stdout) == shape(told)


def test_the_page_answers_all_of_the_questions() -> None:
    asked = re.findall(r"^## (.*\?)$", PAGE, re.MULTILINE)

    assert len(asked) == 5
    for _, answer in zip(asked, re.split(r"^## .*\?$", PAGE, flags=re.MULTILINE)[1:], strict=True):
        assert "$ harvest-bridge" in answer
