"""Where v1 is: the URL template of its origin, and what a subdomain makes of it. No I/O."""

from typing import NamedTuple
from urllib.parse import urlsplit

from bridge.identity.hosts import is_label

PLACEHOLDER = "{subdomain}"


class Place(NamedTuple):
    """One origin (RFC 9110, section 4.3.1)."""

    scheme: str
    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the scheme's own: what `Host` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Its URL, without a trailing slash."""
        return f"{self.scheme}://{self.authority}"


_PORTS = {"http": 80, "https": 443}


def place_of(url: str) -> Place:
    """Return the origin of an http or https URL.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("must be an http or https URL such as https://{subdomain}.harvestapp.com")
    return Place(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])


class Template:
    """The setting `legacy_origin`."""

    def __init__(self, template: str) -> None:
        """Take a template that `place_of` has found fit."""
        self._template = template
        self._fixed = None if PLACEHOLDER in template else place_of(template)

    def __str__(self) -> str:
        return self._template

    @property
    def is_fixed(self) -> bool:
        """Whether it is one place, whatever the subdomain."""
        return self._fixed is not None

    def place(self, subdomain: str | None) -> Place | None:
        """Return where the v1 of a subdomain is; None: it has none.

        The subdomain comes of a header that anybody can write: nothing but one label of a host name
        (RFC 1123, section 2.1) gets into the name of a host that is called.
        """
        if self._fixed is not None:
            return self._fixed
        if subdomain is None or not is_label(subdomain):
            return None
        return place_of(self._template.replace(PLACEHOLDER, subdomain))
