"""Every setting once: its type, its default and its meaning. How it is given is said in README.md.

What differs from one installation to another is a setting. What does not is a constant beside the
code that it holds for; the limits among those are in `bridge.server.limits`.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from bridge import __version__
from bridge.identity.callers import Way
from bridge.v1.dialects import Dialect
from bridge.v2.client import Upstream

PREFIX = "HARVEST_BRIDGE_"

WITHDRAWN = (
    "bodies_limit", "body_timeout", "calls", "calls_per_address", "calls_per_login",
    "connect_timeout", "head_timeout", "idle_timeout", "page_limit", "upstream_body_limit",
    "upstream_calls_per_account", "upstream_connections",
)  # fmt: skip
"""Settings of old. Their variables are refused, as unknown keys of a file are; other variables with
the prefix are not, for the tokens of a credential book may be in such."""


class WrongSetting(Exception):
    """A setting is missing or makes no sense; `str()` is one line for the operator."""


def _base_url(text: str) -> str:
    if not re.fullmatch("[!-~]+", text):
        raise ValueError("must be percent-encoded")
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http or https URL such as https://api.harvestapp.com/v2")
    if set("?#@") & set(text):
        raise ValueError("must have no query, fragment or user name")
    if parts.port == 0:  # asking for it raises ValueError where it is no port at all
        raise ValueError("must have a port that can be connected to")
    return text.rstrip("/")


def _comma_list(value: object) -> object:
    """Read `a, b` as a list; nothing is an empty one."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _day(value: object) -> object:
    """Let only days pass as such: to pydantic, a number is one, too."""
    if type(value) is date or (isinstance(value, str) and _DAY.fullmatch(value)):
        return value
    raise ValueError("must be a day such as 2027-06-30")


_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _text(value: object) -> object:
    """Let only text pass: as an address, a number would be taken, too."""
    if isinstance(value, str):
        return value
    raise ValueError('must be an address or a network such as "10.0.0.0/8"')


def _like(pattern: str, meaning: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {meaning}")
        return text

    return AfterValidator(check)


_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LOWER = StringConstraints(strip_whitespace=True, to_lower=True)

_NAME = "(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\\.)+[A-Za-z][A-Za-z0-9-]*"
"""A host name that others can look up: it has a dot."""

CommaList = BeforeValidator(_comma_list)
Contact = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    _like(
        rf"[!-'*-?A-~]+@{_NAME}|(?i:https?)://{_NAME}(?::[0-9]+)?(?:[/?#][!-'*-~]*)?",
        "an e-mail address or an http or https URL, in ASCII and without parentheses",
    ),
]
Label = Annotated[
    str, _LOWER, _like(_LABEL, "what stands before the first dot of a host name, such as acme")
]
Domain = Annotated[
    str, _LOWER, _like(rf"{_LABEL}(?:\.{_LABEL})*", "a host name such as harvestapp.com")
]
Proxy = Annotated[IPvAnyNetwork, BeforeValidator(_text)]
Host = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
SecondsOrZero = Annotated[float, Field(ge=0, le=3600)]


_NOBODY = re.compile(r"(?:^|\.)example(?:\.(?:com|net|org))?$", re.IGNORECASE)
"""The host names that stand in examples (RFC 2606)."""


class _Part(BaseSettings):
    """Some of the settings; where they are gathered, the others do not matter."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        enable_decoding=False,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_what_is_no_value(cls, value: object) -> object:
        """Refuse what stands for a value, and what pydantic would take for a number."""
        if isinstance(value, str) and re.fullmatch(r"\s*<.*>\s*", value, re.DOTALL):
            raise ValueError("a placeholder stands here: put your own value in its place")
        if any(isinstance(each, bool) for each in (value if isinstance(value, list) else [value])):
            raise ValueError("must not be true or false")
        return value

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Any, ...]:  # noqa: ANN401
        """Take what is handed over and nothing else: gathering is `load`'s business."""
        return (sources["init_settings"],)


class UpstreamSettings(_Part):
    """What it takes to call v2."""

    contact: Contact
    """Whom Harvest may ask about this bridge: an e-mail address or a URL."""
    upstream: Annotated[str, AfterValidator(_base_url)] = "https://api.harvestapp.com/v2"
    """The base URL of v2."""

    @model_validator(mode="after")
    def _is_somebody_to_harvest(self) -> Self:
        v2 = f".{urlsplit(self.upstream).hostname}"
        named = urlsplit(self.contact).hostname or self.contact.rpartition("@")[2]
        if v2.endswith(".harvestapp.com") and _NOBODY.search(named):
            raise ValueError(
                f"contact: {self.contact} is nobody's (RFC 2606), and Harvest is to be told yours"
            )
        return self

    def upstream_client(self) -> Upstream:
        """Return what the v2 client has to know."""
        return Upstream(self.upstream, f"harvest-bridge/{__version__} ({self.contact})")


class FileSettings(_Part):
    """Where the bridge keeps what it knows."""

    book: Path | None = None
    """The credential book, a TOML file."""
    journal: Path = Path("harvest-bridge-journal.sqlite")
    """The file that keeps what is known of writes, an SQLite database."""


class Settings(FileSettings, UpstreamSettings):
    """What an operator can set."""

    model_config = SettingsConfigDict(extra="forbid")

    auth: Annotated[frozenset[Way], CommaList, Field(min_length=1)]
    """The ways of calling to accept, separated by commas: book, token-as-password, bearer."""
    account_id: Count | None = None
    """The Harvest account of tokens that come for a subdomain which the book does not know."""
    domains: Annotated[tuple[Domain, ...], CommaList] = ("harvestapp.com",)
    """What follows the subdomain in host names, separated by commas."""
    subdomain: Label | None = None
    """The subdomain of calls whose host name has none."""
    trusted_proxies: Annotated[tuple[Proxy, ...], CommaList] = ()
    """The addresses or networks whose X-Forwarded-For, -Host and -Proto count, by commas."""
    host: Host = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8080
    """The port to listen on; 0 takes a free one."""
    tls_certificate: Path | None = None
    """The server's certificate and its chain, a PEM file."""
    tls_key: Path | None = None
    """The private key of that certificate, a PEM file."""
    admin_host: Host = "127.0.0.1"
    """The address that the admin side listens on."""
    admin_port: Port = 8090
    """The port of the admin side; 0 takes a free one."""
    dialect: Dialect | None = None
    """The dialect to answer in, whatever the path says: classic or final."""
    sunset: Annotated[date, BeforeValidator(_day)] | None = None
    """The day this service ends, for the Sunset header: 2027-06-30."""
    body_limit: Count = 1024 * 1024
    """The most bytes that the body of a legacy call may have."""
    connections: Count = 10_000
    """The most connections of legacy clients at once."""
    calls_per_account: Count = 100
    """The most legacy calls at once of one Harvest account."""
    call_timeout: Seconds = 30.0
    """Seconds that a legacy call may take, all v2 calls in."""
    throttle_wait: SecondsOrZero = 0.0
    """Seconds that a call waits where v2 asks to; longer is a 503 at once."""
    repeat_window: Annotated[float, Field(ge=0, le=366 * 86400)] = 12 * 3600.0
    """Seconds in which a write counts as a repetition of one like it whose outcome was not told."""
    stop_timeout: SecondsOrZero = 30.0
    """Seconds that calls under way are given when told to stop."""

    @model_validator(mode="after")
    def _make_sense_together(self) -> Self:
        if Way.BOOK in self.auth and self.book is None:
            raise ValueError("book: must be set when auth has book")
        if self.auth - {Way.BOOK} and self.account_id is None and self.book is None:
            raise ValueError("account_id: must be set when auth has a way without a book")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate, tls_key: must be set together")
        if (self.host, self.port) == (self.admin_host, self.admin_port) and self.port:
            raise ValueError("port, admin_port: must differ, as both sides are at one address")
        return self

    def sunset_time(self) -> datetime | None:
        """Return the end of the service: the first moment, UTC, of the day that was set."""
        return None if self.sunset is None else datetime.combine(self.sunset, time(), UTC)


Part = TypeVar("Part", bound=_Part)


def load(part: type[Part], flags: Mapping[str, Any], file: Path | None) -> Part:
    """Gather settings: from `flags` (None: not given), else the environment, else a TOML file.

    Of `Settings` that is all of them; otherwise, those that are not asked for do not matter. A
    relative path in the file starts from the file's folder, any other from the working directory.

    Raises:
        WrongSetting: one is missing, unknown or makes no sense, or the file cannot be read.
    """
    withdrawn = {name: "" for name in WITHDRAWN if os.environ.get(PREFIX + name.upper())}
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        read = {} if file is None else _read(file)
        return part(**{**read, **EnvSettingsSource(part)(), **withdrawn, **given})
    except ValidationError as error:
        raise WrongSetting("; ".join(_complaint(each) for each in error.errors())) from None
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise WrongSetting(f"{file}: {what}") from None


PATHS = ("book", "journal", "tls_certificate", "tls_key")


def _read(file: Path) -> dict[str, Any]:
    read = tomllib.loads(file.read_text("utf-8"))
    for name in PATHS:
        if isinstance(path := read.get(name), str):
            read[name] = file.parent / path
    return read


def _complaint(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    if error["type"] == "missing":
        message = "must be set"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    flag = "--" + name.replace("_", "-")
    return f"{name}: {message} ({flag}, {PREFIX}{name.upper()}, or {name} in the file)"
