"""Whether v1's origin is the bridge itself: by a hosts entry on its own machine, it would be."""

import asyncio
import ipaddress
import socket
from contextlib import suppress

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.origin.place import Place

_WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - nothing listens here

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class LeadsBack(OSError):
    """A name of the origin has the bridge's own address; `str()` is for the operator."""


class Own:
    """The address that a bridge listens on."""

    def __init__(self, host: str, port: int) -> None:
        """Listen on `port` of `host`, an address or a name; 0: it is not known which yet."""
        self._is_everywhere = host in _WILDCARDS
        self._addresses: frozenset[_Address | None] = frozenset()
        if not self._is_everywhere:
            with suppress(OSError, UnicodeError):
                self._addresses = frozenset(map(_parsed, _addresses(host, port)))
        self.port = port

    def is_at(self, address: str, port: int) -> bool:
        """Tell whether whoever connects there reaches the bridge."""
        if port != self.port or (found := _parsed(address)) is None:
            return False
        return _is_of_this_machine(found) if self._is_everywhere else found in self._addresses


class Resolver(AbstractResolver):
    """Looks names up as the system does, and none that lead back."""

    def __init__(self, own: Own) -> None:
        self._own = own
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            LeadsBack: one of them is the bridge's.
            OSError: it has none.
        """
        found = await self._system.resolve(host, port, family)
        for each in found:
            if self._own.is_at(each["host"], each["port"]):
                raise LeadsBack(leads_back(host, each["host"], each["port"]))
        return found

    async def close(self) -> None:
        """Let go of nothing."""
        await self._system.close()


async def loop_of(place: Place, own: Own) -> str | None:
    """Return why calls to a place would come back, None if they would not, as far as is known."""
    loop = asyncio.get_running_loop()
    with suppress(OSError, UnicodeError):
        for address in await loop.run_in_executor(None, _addresses, place.host, place.port):
            if own.is_at(address, place.port):
                return leads_back(place.host, address, place.port)
    return None


def leads_back(host: str, address: str, port: int) -> str:
    """Say that a name has the bridge's own address."""
    named = "" if address == host else f" is {address},"
    return f"{host}{named} port {port}: the bridge itself, so that calls would come back to it"


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _parsed(address: str) -> _Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _is_of_this_machine(address: _Address) -> bool:
    """Tell whether one of the machine's interfaces has an address: only then can it be bound."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
