"""What the machine has to give: ports, and files that may be open at once."""

import errno
import resource
import socket
from collections.abc import Iterator

from bridge.checking.findings import Finding, ok, warning, wrong
from bridge.server.limits import DESCRIPTORS_BESIDE
from bridge.server.serving import CannotListen, told_if_taken
from bridge.settings import Settings, where


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Tell whether both addresses can be listened on, without listening."""
    for setting, host, port in (
        ("port", settings.host, settings.port),
        ("admin_port", settings.admin_host, settings.admin_port),
    ):
        yield _check_port(setting, host, port)


def _check_port(setting: str, host: str, port: int) -> Finding:
    name, place = setting.replace("_", " "), f"{host} port {port}"
    if port == 0:
        return ok(name, f"{host}: takes a free one")
    try:
        with told_if_taken(host, port, setting):
            taken = _is_taken(host, port)
    except CannotListen as error:
        return wrong(name, str(error), where(setting))
    if taken:
        told = f"{place}: somebody listens there"
        return warning(name, told, f"if that is not this bridge: stop it, or set {where(setting)}")
    return ok(name, f"{place}: free")


def _is_taken(host: str, port: int) -> bool:
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            # As asyncio binds: else what a bridge has left half closed would look taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return True
                raise
    return False


def check_open_files(connections: int) -> Finding:
    """Tell whether the process may open as many connections as it is to take (`ulimit -n`)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + DESCRIPTORS_BESIDE
    most = hard if hard != resource.RLIM_INFINITY else needed
    if max(soft, most) >= needed:
        return ok("open files", f"{needed} needed for {connections} connections, and allowed")
    told = f"{most} allowed, where {connections} connections need {needed}"
    mend = f"raise it (ulimit -Hn {needed}; systemd: LimitNOFILE={needed}), or set fewer"
    return warning("open files", told, f"{mend} {where('connections')}")
