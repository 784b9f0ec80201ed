"""An upstream that costs next to nothing: v2's answers as files, which nginx serves.

The first digit of an invoice's id says which size its list has, the last one which of ten texts.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import msgspec

from bridge.v2.paging import PER_PAGE
from tests.bench.machine import Command, NotMeasured, await_listening, free_port, started
from tests.bench.upstream import message_of_list
from tests.support.running import LOOPBACK
from tests.support.upstream import page

_DIGITS = 12
_FIRST_DIGIT: int = 10 ** (_DIGITS - 1)
_VARIANTS = 10
_RESERVED = 10_000_000
"""Ids between the first ones of two measurements."""

_CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server_tokens off;
  default_type application/json;
  types {{ }}
  keepalive_timeout 3600;
  keepalive_requests 1000000000;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=100;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen {loopback}:{port} backlog=1024;
    location = /v1/traces {{ return 200; }}
{locations}
  }}
}}
"""

_LOCATION = """\
    location ~ "^/v2/invoices/{digit}\\d{{{middle}}}(\\d)/messages$" {{
      if ($request_method = POST) {{ return 201 '{created}'; }}
      alias {folder}/{digit}-$1.json;
    }}"""


class Ids:
    """Invoice ids, none of which is handed out twice."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """Prepare ids for lists of these sizes."""
        self._sizes = list(sizes)
        self._measurements = count(1)

    def unused(self, size: int) -> int:
        """Return the first of ten million ids of lists of `size` that were never asked for."""
        return self.polled(size) + next(self._measurements) * _RESERVED

    def polled(self, size: int) -> int:
        """Return the first of the ids that are asked for again and again."""
        return (self._sizes.index(size) + 1) * _FIRST_DIGIT


def list_json(size: int, variant: int = 0) -> bytes:
    """Return v2's list of `size` messages, which differ in every variant.

    Raises:
        NotMeasured: v2 would need more than one page for it.
    """
    if not 1 <= size <= PER_PAGE:
        raise NotMeasured(f"a page of v2 has 1 to {PER_PAGE} messages, not {size}")
    first = variant * PER_PAGE
    messages = [msgspec.Raw(message_of_list(first + number)) for number in range(size)]
    return msgspec.json.encode({**page(), "total_entries": size, "invoice_messages": messages})


@contextmanager
def static_upstream(sizes: Sequence[int], folder: Path, core: int | None) -> Iterator[str]:
    """Serve lists of these sizes from `folder`, and a 201 to each POST; yields the base URL.

    Raises:
        NotMeasured: there is no nginx, or it does not start.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise NotMeasured("nginx is not installed")
    for digit, size in enumerate(sizes, start=1):
        for variant in range(_VARIANTS):
            (folder / f"{digit}-{variant}.json").write_bytes(list_json(size, variant))
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",  # to be let into the folder
            loopback=LOOPBACK,
            port=port,
            locations="\n".join(
                _LOCATION.format(digit=digit, middle=_DIGITS - 2, folder=folder, created=_created())
                for digit in range(1, len(sizes) + 1)
            ),
        )
    )
    log = folder / "nginx.log"
    command: Command = [nginx, "-p", folder, "-c", configuration, "-e", "stderr"]
    with started(command, log, core=core) as process:
        try:
            await_listening(process, port, log)
        except NotMeasured as reason:
            raise NotMeasured(f"nginx: {reason}") from None
        yield f"http://{LOOPBACK}:{port}/v2"


def _created() -> str:
    """Return a created message as nginx is to write it: each has another id."""
    text = message_of_list(0).decode().replace("'", "’")
    return text.replace('"id":27000000', '"id":$connection$connection_requests').replace(
        "\\", r"\\"
    )
