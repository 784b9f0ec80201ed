"""What an operator is told of an address that cannot be listened on."""

import errno
import socket

import pytest

from bridge.server.serving import CannotListen, told_if_taken
from tests.support.running import LOOPBACK, running_service

TAKEN = "another process listens there: stop it, or set another"
ROOTS = (
    "ports below 1024 are for root, or for who was given CAP_NET_BIND_SERVICE "
    "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE): have that given, or set another"
)


@pytest.mark.parametrize(
    ("error", "host", "setting", "told"),
    [
        (OSError(errno.EADDRINUSE, "in their words"), "::1", "port", f"port: cannot listen on [::1]:443: Address already in use: {TAKEN} port"),
        (OSError(errno.EACCES, "in their words"), "0.0.0.0", "port", f"port: cannot listen on 0.0.0.0:443: Permission denied: {ROOTS} port"),
        (OSError(errno.EADDRNOTAVAIL, "in their words"), "192.0.2.1", "admin_port", "admin_host: cannot listen on 192.0.2.1:443: Cannot assign requested address: this machine has no such address: set another admin_host"),
        (OSError(errno.EAFNOSUPPORT, "in their words"), "::", "port", "port: cannot listen on [::]:443: Address family not supported by protocol: set another host or port"),
        (socket.gaierror(-2, "Name or service not known"), "no.such", "admin_port", "admin_host: cannot listen on no.such:443: Name or service not known: this machine has no such address: set another admin_host"),
    ],
)  # fmt: skip
def test_the_setting_the_address_and_the_remedy_are_named(
    error: OSError, host: str, setting: str, told: str
) -> None:
    with pytest.raises(CannotListen) as raised, told_if_taken(host, 443, setting):
        raise error

    assert str(raised.value) == told


@pytest.mark.parametrize("setting", ["port", "admin_port"])
async def test_which_of_the_two_ports_is_taken_is_told(setting: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"^{setting}: cannot listen on {LOOPBACK}:{port}: "):
            async with running_service("http://localhost:1/v2", account_id=1, **{setting: port}):
                pass
