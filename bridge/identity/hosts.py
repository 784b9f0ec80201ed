"""From where a call comes and to which host name it goes, as far as that can be believed.

Behind a proxy the connection tells neither; what the proxy says of them counts only if it is one
that the operator trusts.
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""A label of a host name in lower case (RFC 1123, section 2.1), such as a subdomain is."""


class Origin(NamedTuple):
    """Who calls which host."""

    network: str
    """What all that comes from one place is counted by: `network_of` its address."""
    host: str
    """As the client asked for it, perhaps with a port."""
    address: str
    """Where it comes from."""


def origin(
    peer: str,
    host: str,
    forwarded_for: Sequence[str],
    forwarded_host: Sequence[str],
    trusted_proxies: Sequence[Network],
) -> Origin:
    """Return whose call it is: the peer's, or the one that trusted proxies pass on.

    `forwarded_for` and `forwarded_host` are the lines of `X-Forwarded-For` and `X-Forwarded-Host`.
    Of the addresses, to which each proxy adds the one it was called from, in the same line or in
    one of its own, the last that is no trusted proxy counts: what stands before it, anyone may have
    written.
    """
    if not trusted_proxies or not is_trusted(peer, trusted_proxies):
        return Origin(network_of(peer), host, spelled(peer))
    latest_first = reversed(",".join(forwarded_for).split(","))
    hops = (without_port(hop.strip()) for hop in latest_first if hop.strip())
    address = next((hop for hop in hops if not is_trusted(hop, trusted_proxies)), peer)
    return Origin(network_of(address), _nearest(forwarded_host) or host, spelled(address))


def scheme(
    peer: str, spoken: str, forwarded_proto: Sequence[str], trusted_proxies: Sequence[Network]
) -> str:
    """Return what the client spoke, `https` or `http`.

    It is what was `spoken` on the connection, or what the lines of a trusted proxy's
    `X-Forwarded-Proto` say.
    """
    if not trusted_proxies or not is_trusted(peer, trusted_proxies):
        return spoken
    forwarded = _nearest(forwarded_proto).lower()
    return forwarded if forwarded in {"http", "https"} else spoken


def _nearest(lines: Sequence[str]) -> str:
    """Return what the nearest proxy says, which adds itself behind those before it."""
    return ",".join(lines).rpartition(",")[2].strip()


def subdomain(host: str, domains: Collection[str]) -> str | None:
    """Return the one label that `host` has before one of `domains`, in lower case."""
    label, _, rest = host.lower().partition(":")[0].rstrip(".").partition(".")
    return label if label and rest in domains else None


_PLAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*")


def for_a_log(host: str) -> str:
    """Return the name or address of a host in lower case, or `…` for what may be something else.

    A client can write anything into it; a v2 token has a part that is longer than one of a name.
    """
    return _plain(host) if len(host) <= _LONGEST else "…"


_LONGEST = 300
"""Characters of a name with a port, or of what may be made up and yet be kept in mind."""


@lru_cache(maxsize=1024)
def _plain(host: str) -> str:
    name = without_port(host).lower().rstrip(".")
    is_address = "%" not in name and _octets_of_ipv6(name) is not None
    return name if is_address or _PLAIN.fullmatch(name) else "…"


_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}(?:%[A-Za-z0-9._-]{1,15})?(?:/64)?")


def address_for_a_log(address: str) -> str:
    """Return an IP address or network, or `…` for what a proxy passes on in its place."""
    return address if _ADDRESS.fullmatch(address) else "…"


def subdomain_for_a_log(subdomain: str | None) -> str | None:
    """Return a subdomain, or `…` for what is none by its characters."""
    if subdomain is None or is_label(subdomain):
        return subdomain
    return "…"


def is_label(text: str) -> bool:
    """Tell whether a text is one label of a host name, in lower case."""
    return len(text) <= _LONGEST and _is_label(text)


@lru_cache(maxsize=1024)
def _is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


_LABEL = re.compile(LABEL)
"""What a subdomain may be, and a log may have: it is no secret, and no v2 token, which is longer. A
client can write anything into its host name."""


def without_port(place: str) -> str:
    """Return the address or name of a place, which may come with a port: `203.0.113.7:4711`."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place.partition(":")[0] if place.count(":") == 1 else place


def network_of(address: str) -> str:
    """Return what to count by: an IPv4 address, or the /64 network of an IPv6 one.

    Whoever has one address of an IPv6 network has them all (RFC 4291, section 2.5.4). An IPv4
    address that comes in IPv6 is the IPv4 one; what is no IP address is left as it is.
    """
    if (octets := _octets_of_ipv6(address)) is None:
        return address
    if octets.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, octets[len(_IPV4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, octets[:8] + bytes(8)) + "/64"


def spelled(address: str) -> str:
    """Return an IP address in its one spelling (RFC 5952), what comes of IPv4 in IPv6 as IPv4."""
    if (octets := _octets_of_ipv6(address)) is None:
        return address
    if octets.startswith(_IPV4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, octets[len(_IPV4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, octets) + "".join(address.partition("%")[1:])


def _octets_of_ipv6(address: str) -> bytes | None:
    if ":" not in address:
        return None
    try:
        return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return None


_IPV4_MAPPED = bytes(10) + b"\xff\xff"
"""What comes before the IPv4 address (RFC 4291, section 2.5.5.2)."""


def is_trusted(address: str, proxies: Sequence[Network]) -> bool:
    """Tell whether `address` is that of a proxy that the operator trusts."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in proxy for proxy in proxies)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address, one of IPv4 even if it comes in IPv6; None for whatever else."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
