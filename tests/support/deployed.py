"""What is in deploy/, read as those read it for whom it is, and the tools that check it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import settings
from bridge.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

HAND_FILLED = {"CONTACT": "ops@acme.dev", "ACCOUNT_ID": "1000"}
"""What an operator has to put in, everywhere."""


def needs(command: str) -> pytest.MarkDecorator:
    """Skip a test where its tool is missing, and say so."""
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"{command} is not installed")


def said_by(*command: str | Path, folder: Path = ROOT) -> str:
    """Return what a tool says that finds no fault."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_the_environments_bin(command: str) -> Path:
    """Return where a command is that was installed beside the interpreter."""
    return Path(sys.executable).parent / command


def documents(path: Path) -> list[Any]:
    """Return what is in a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the image's second stage, in order, and what each is given."""
    lines = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text()).splitlines()
    given = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    found = [(name, rest.strip()) for name, _, rest in given]
    return found[[name for name, _ in found].index("FROM", 2) :]


def environment_of_the_image() -> dict[str, str]:
    """Return the variables that the image sets."""
    pairs = (rest.split() for name, rest in dockerfile() if name == "ENV")
    return dict(pair.split("=", 1) for each in pairs for pair in each)


def loaded(variables: Mapping[str, str], patch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a bridge in the image with these variables."""
    for name in list(_ours(os.environ)):
        patch.delenv(name)
    for name, value in {**environment_of_the_image(), **variables}.items():
        if name != "PATH":
            patch.setenv(name, value)
    return settings.load(Settings, {}, None)


def _ours(names: Mapping[str, str]) -> Iterator[str]:
    return (name for name in names if name.startswith(PREFIX))
