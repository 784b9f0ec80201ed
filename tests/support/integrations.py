"""Four integrations that know v1 only, each as its kind was written, and the programs that they are.

They do the same work; what stands in `clients/` is given nothing but a base URL, a login and a password.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bridge.sandbox.seeds import SANDBOX_TOKEN, USERS, V1_PASSWORDS

CLIENTS = Path(__file__).parent / "clients"

READS = ("list", "show", "payments")
"""What the bridge translates and does not write."""
WRITES = ("send", "pay")
UNTRANSLATED = ("clients",)
ALL = (*READS, *WRITES, *UNTRANSLATED)


class Integration(NamedTuple):
    """A program, and the sandbox's user that was made for it."""

    name: str
    command: Sequence[str]
    token: str
    agent: str
    """What its User-Agent says it is, without versions."""
    tool: str
    """What has to be there to run it."""
    packages: str = ""
    """What has that on Debian."""

    @property
    def login(self) -> str:
        """Who it says it is."""
        return USERS[self.token].email

    @property
    def password(self) -> str:
        """What it gives v1."""
        return V1_PASSWORDS[self.token]

    @property
    def is_missing(self) -> bool:
        """Whether this machine cannot run it."""
        return shutil.which(self.tool) is None

    async def work(self, url: str, *steps: str) -> list[tuple[str, int, str]]:
        """Have it take steps at a base URL: each one's name, status, and what it read."""
        process = await asyncio.create_subprocess_exec(
            *self.command,
            *steps,
            env={
                **os.environ,
                "HARVEST_URL": url,
                "HARVEST_LOGIN": self.login,
                "HARVEST_PASSWORD": self.password,
            },
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        assert process.returncode == 0
        lines = [line.split("\t") for line in told.decode().splitlines()]
        return [(step, int(status), read) for step, status, read in lines]


INTEGRATIONS: tuple[Integration, ...] = (
    Integration(
        "PHP with curl",
        ("php", str(CLIENTS / "billing.php")),
        "billing-token",
        "PHP Wrapper Library for Harvest API",
        "php",
        "php-cli php-curl php-xml",
    ),
    Integration(
        "Python with requests",
        (sys.executable, str(CLIENTS / "reports.py")),
        "reports-token",
        "python-requests",
        sys.executable,
    ),
    # Compiled as it is run, which takes a JDK. It has 260 MB, so it is not installed for this alone;
    # the options are for a program that runs for a second.
    Integration(
        "Java with HttpURLConnection",
        ("java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", str(CLIENTS / "Shop.java")),
        "shop-token",
        "Java",
        "javac",
        "default-jdk-headless",
    ),
    Integration(
        "curl in a shell",
        ("sh", str(CLIENTS / "cron.sh")),
        SANDBOX_TOKEN,
        "curl",
        "curl",
        "curl",
    ),
)
