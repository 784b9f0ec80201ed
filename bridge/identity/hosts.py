"""From where a call comes and to which host name it goes, as far as that can be believed.

Behind a proxy the connection tells neither; what the proxy says of them counts only if it is one
that the operator trusts.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Origin(NamedTuple):
    """Who calls which host."""

    address: str
    """An IP address, or whatever the transport has instead."""
    host: str
    """As the client asked for it, perhaps with a port."""


def origin(
    peer: str,
    host: str,
    forwarded_for: str | None,
    forwarded_host: str | None,
    trusted_proxies: Sequence[Network],
) -> Origin:
    """Return whose call it is: the peer's, or the one that trusted proxies pass on.

    Of `X-Forwarded-For`, to which each proxy adds the address it was called from, the last one that
    is no trusted proxy counts: what stands before it, anyone may have written.
    """
    if not _is_trusted(peer, trusted_proxies):
        return Origin(peer, host)
    hops = [hop.strip() for hop in (forwarded_for or "").split(",") if hop.strip()]
    address = next((hop for hop in reversed(hops) if not _is_trusted(hop, trusted_proxies)), peer)
    forwarded = (forwarded_host or "").rpartition(",")[2].strip()
    return Origin(address, forwarded or host)


def subdomain(host: str, domains: Iterable[str]) -> str | None:
    """Return the one label that `host` has before one of `domains`, in lower case."""
    name = host.lower().partition(":")[0].rstrip(".")
    for domain in domains:
        label, dot, rest = name.partition(".")
        if dot and label and rest == domain:
            return label
    return None


def _is_trusted(address: str, proxies: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in proxy for proxy in proxies)
