"""Every setting once: its type, its default and its meaning. How it is given is said in README.md.

A setting comes from a flag, else from `HARVEST_BRIDGE_…` in the environment, else from a TOML
file, else it has its default.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bridge import __version__
from bridge.identity.callers import Way
from bridge.identity.hosts import Network
from bridge.upstream.gateway import Policy
from bridge.v1.dialects import Dialect
from bridge.v2.client import Upstream

PREFIX = "HARVEST_BRIDGE_"


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


def _contact(text: str) -> str:
    if not re.fullmatch("[ -~]+", text) or not text.strip() or set(text) & set("()"):
        raise ValueError("must be an e-mail address or a URL, in ASCII and without parentheses")
    return text.strip()


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"


def _label(text: str) -> str:
    label = text.strip().lower()
    if not re.fullmatch(_LABEL, label):
        raise ValueError("must be what stands before the first dot of a host name, such as acme")
    return label


def _domain(text: str) -> str:
    domain = text.strip().lower().strip(".")
    if not re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})*", domain):
        raise ValueError("must be a host name such as harvestapp.com")
    return domain


def _network(value: object) -> Network:
    try:
        return ip_network(str(value))
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8") from None


def _comma_list(value: object) -> object:
    """Read `a, b` as a list; nothing is an empty one."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


class UpstreamSettings(BaseSettings):
    """What it takes to call v2."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", env_ignore_empty=True)

    contact: Annotated[
        str,
        AfterValidator(_contact),
        Field(description="Whom Harvest may ask about this bridge: an e-mail address or a URL."),
    ]
    upstream: Annotated[
        str,
        AfterValidator(_base_url),
        Field(description="The base URL of v2."),
    ] = "https://api.harvestapp.com/v2"
    connect_timeout: Annotated[
        float, Field(gt=0, le=3600, description="Seconds that a connection to v2 may take.")
    ] = 5.0
    upstream_body_limit: Annotated[
        int, Field(ge=1024, description="The most bytes that one answer of v2 may have.")
    ] = 64 * 1024 * 1024
    upstream_connections: Annotated[
        int, Field(ge=1, description="The most connections to v2 at once.")
    ] = 100

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is handed over and nothing else: gathering is `load`'s business."""
        return (init_settings,)

    def upstream_client(self) -> Upstream:
        """Return what the v2 client has to know."""
        return Upstream(
            base_url=self.upstream,
            user_agent=f"harvest-bridge/{__version__} ({self.contact})",
            connect_timeout=self.connect_timeout,
            body_limit=self.upstream_body_limit,
            connections=self.upstream_connections,
        )


class Settings(UpstreamSettings):
    """What an operator can set."""

    model_config = SettingsConfigDict(extra="forbid")

    auth: Annotated[
        frozenset[Way],
        NoDecode,
        BeforeValidator(_comma_list),
        Field(
            min_length=1,
            description="The ways of calling to accept, separated by commas: "
            + ", ".join(Way)
            + ".",
        ),
    ]
    account_id: Annotated[
        int | None,
        Field(
            ge=1,
            description="The Harvest account of tokens that come for a subdomain which the book "
            "does not know.",
        ),
    ] = None
    book: Annotated[Path | None, Field(description="The credential book, a TOML file.")] = None
    domains: Annotated[
        tuple[Annotated[str, AfterValidator(_domain)], ...],
        NoDecode,
        BeforeValidator(_comma_list),
        Field(description="What follows the subdomain in host names, separated by commas."),
    ] = ("harvestapp.com",)
    subdomain: Annotated[
        Annotated[str, AfterValidator(_label)] | None,
        Field(description="The subdomain of calls whose host name has none."),
    ] = None
    trusted_proxies: Annotated[
        tuple[Annotated[Network, BeforeValidator(_network)], ...],
        NoDecode,
        BeforeValidator(_comma_list),
        Field(
            description="The addresses or networks whose X-Forwarded-For and X-Forwarded-Host "
            "count, separated by commas."
        ),
    ] = ()
    host: Annotated[str, Field(min_length=1, description="The address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    ] = 8080
    tls_certificate: Annotated[
        Path | None, Field(description="The server's certificate and its chain, a PEM file.")
    ] = None
    tls_key: Annotated[
        Path | None, Field(description="The private key of that certificate, a PEM file.")
    ] = None
    admin_host: Annotated[
        str, Field(min_length=1, description="The address that the admin side listens on.")
    ] = "127.0.0.1"
    admin_port: Annotated[
        int, Field(ge=0, le=65535, description="The port of the admin side; 0 takes a free one.")
    ] = 8090
    dialect: Annotated[
        Dialect | None,
        Field(description="The dialect to answer in, whatever the path says: classic or final."),
    ] = None
    sunset: Annotated[
        date | None,
        Field(description="The day this service ends, for the Sunset header: 2027-06-30."),
    ] = None
    body_limit: Annotated[
        int, Field(ge=1, description="The most bytes that the body of a legacy call may have.")
    ] = 1024 * 1024
    bodies_limit: Annotated[
        int, Field(ge=1, description="The most bytes that all bodies together may have at once.")
    ] = 128 * 1024 * 1024
    body_timeout: Annotated[
        float, Field(gt=0, le=3600, description="Seconds that a body may take to arrive.")
    ] = 30.0
    head_timeout: Annotated[
        float, Field(gt=0, le=3600, description="Seconds that a head may take to arrive.")
    ] = 20.0
    idle_timeout: Annotated[
        float, Field(gt=0, le=3600, description="Seconds that a connection may wait for a call.")
    ] = 75.0
    connections: Annotated[
        int, Field(ge=1, description="The most connections of legacy clients at once.")
    ] = 10_000
    calls: Annotated[int, Field(ge=1, description="The most legacy calls at once.")] = 500
    calls_per_login: Annotated[
        int, Field(ge=1, description="The most legacy calls at once of one login or token.")
    ] = 50
    calls_per_address: Annotated[
        int,
        Field(
            ge=1,
            description="The most legacy calls at once from one address, with logins that are not "
            "the book's.",
        ),
    ] = 100
    calls_per_account: Annotated[
        int, Field(ge=1, description="The most legacy calls at once of one Harvest account.")
    ] = 100
    call_timeout: Annotated[
        float,
        Field(gt=0, le=3600, description="Seconds that a legacy call may take, all v2 calls in."),
    ] = 30.0
    throttle_wait: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            description="Seconds that a call waits where v2 asks to; longer is a 503 at once.",
        ),
    ] = 0.0
    upstream_calls_per_account: Annotated[
        int, Field(ge=1, description="The most v2 calls at once of one Harvest account.")
    ] = 25
    journal: Annotated[
        Path, Field(description="The file that keeps what is known of writes, an SQLite database.")
    ] = Path("harvest-bridge-journal.sqlite")
    repeat_window: Annotated[
        float,
        Field(
            ge=0,
            le=366 * 86400,
            description="Seconds in which a write is taken for the repetition of one like it "
            "whose outcome its client was not told.",
        ),
    ] = 12 * 3600.0
    stop_timeout: Annotated[
        float,
        Field(
            ge=0, le=3600, description="Seconds that calls under way are given when told to stop."
        ),
    ] = 30.0
    page_limit: Annotated[
        int, Field(ge=1, description="The most pages of 2,000 that a list may have.")
    ] = 1000

    def gateway_policy(self) -> Policy:
        """Return what the gateway to v2 has to know."""
        return Policy(
            throttle_wait=self.throttle_wait,
            calls=self.upstream_connections,
            calls_per_account=self.upstream_calls_per_account,
        )

    @model_validator(mode="after")
    def _make_sense_together(self) -> Self:
        if Way.BOOK in self.auth and self.book is None:
            raise ValueError("book: must be set when auth has book")
        if self.auth - {Way.BOOK} and self.account_id is None and self.book is None:
            raise ValueError("account_id: must be set when auth has a way without a book")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate, tls_key: must be set together")
        return self

    def sunset_time(self) -> datetime | None:
        """Return the end of the service: the first moment, UTC, of the day that was set."""
        return None if self.sunset is None else datetime.combine(self.sunset, time(), UTC)


def load(flags: Mapping[str, Any], file: Path | None) -> Settings:
    """Gather the settings from `flags` (None: not given), the environment and a TOML file.

    Raises:
        WrongSetting: one is missing, unknown or makes no sense, or the file cannot be read.
    """
    return _gather(Settings, flags, file)


def load_upstream(flags: Mapping[str, Any], file: Path | None) -> UpstreamSettings:
    """Gather what it takes to call v2, from the same places; other settings do not matter.

    Raises:
        WrongSetting: as `load` does, of the settings about v2.
    """
    return _gather(UpstreamSettings, flags, file)


_Gathered = TypeVar("_Gathered", bound=UpstreamSettings)


def _gather(wanted: type[_Gathered], flags: Mapping[str, Any], file: Path | None) -> _Gathered:
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return wanted(**{**read_file(file), **EnvSettingsSource(wanted)(), **given})
    except ValidationError as error:
        raise WrongSetting("; ".join(_complaint(each) for each in error.errors())) from None


def read_file(file: Path | None) -> dict[str, Any]:
    """Return what stands in a TOML file, right or wrong; no file is nothing.

    Raises:
        WrongSetting: it cannot be read, or is no TOML.
    """
    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise WrongSetting(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise WrongSetting(f"{file}: {error}") from None


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
