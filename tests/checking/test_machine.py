"""What is told of ports and open files."""

import resource
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from bridge.checking.machine import check_open_files, check_ports
from bridge.settings import Settings
from tests.support.gateways import free_port
from tests.support.running import LOOPBACK


def ports(**given: Any) -> Mapping[str, str]:
    needed: dict[str, Any] = {"contact": "ops@acme.dev", "auth": "bearer", "account_id": 1}
    made = Settings(**{**needed, "port": 0, "admin_port": 0, **given})
    return {each.check: each.verdict for each in check_ports(made)}


def test_a_port_that_is_free_is_left_free() -> None:
    port = free_port()

    assert [ports(port=port)["port"] for _ in range(2)] == ["ok", "ok"]
    socket.create_server((LOOPBACK, port)).close()


def test_a_port_that_is_taken_may_be_the_bridges() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]

        assert ports(admin_port=port) == {"port": "ok", "admin port": "warning"}
        taken.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody has knocked
            taken.accept()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_wrong(host: str) -> None:
    assert ports(host=host, port=free_port())["port"] == "wrong"


def test_files_that_may_not_be_open_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))

    assert check_open_files(3596).verdict == "ok"
    found = check_open_files(3597)
    assert (found.verdict, "LimitNOFILE=4097" in found.mend) == ("warning", True)
