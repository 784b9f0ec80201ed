"""Every setting once: its type, its default and its meaning. How it is given is said in README.md.

What differs from one installation to another is a setting. What does not is a constant beside the
code that it holds for; the limits among those are in `bridge.server.limits`.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from bridge import __version__
from bridge.identity.callers import Way
from bridge.identity.hosts import LABEL
from bridge.v1.dialects import Dialect

if TYPE_CHECKING:
    from bridge.v2.client import Upstream

PREFIX = "HARVEST_BRIDGE_"

WITHDRAWN = (
    "bodies_limit", "body_timeout", "calls", "calls_per_address", "calls_per_login",
    "connect_timeout", "head_timeout", "idle_timeout", "page_limit", "upstream_body_limit",
    "upstream_calls_per_account", "upstream_connections",
)  # fmt: skip
"""Settings of old. Their variables are refused, as unknown keys of a file are, and variables that
look like a slip of the pen; others with the prefix are not, for the tokens of a credential book may
be in such."""


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


_LOWER = StringConstraints(strip_whitespace=True, to_lower=True)

_NAME = "(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\\.)+[A-Za-z][A-Za-z0-9-]*"
"""A host name that others can look up: it has a dot."""

_DATABASE = _like(
    r"(?!postgres(?:ql)?(?:\+\w+)?:)(?!\w+://).+|postgresql://[!-~]+",
    "the path of a file, or a URL such as postgresql://user@host/name",
)
_REFERENCE = _like(
    "env:[A-Za-z_][A-Za-z0-9_]*|file:/.+", "env:NAME or file:/absolute/path, and not a token itself"
)


class LogFormat(StrEnum):
    """The form of log lines."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """How serious a log line is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Traces(StrEnum):
    """Where traces go."""

    OFF = "off"
    OTLP = "otlp"


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
    str, _LOWER, _like(LABEL, "what stands before the first dot of a host name, such as acme")
]
Domain = Annotated[
    str, _LOWER, _like(rf"{LABEL}(?:\.{LABEL})*", "a host name such as harvestapp.com")
]
Proxy = Annotated[IPvAnyNetwork, BeforeValidator(_text)]
Host = str
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
SecondsOrZero = Annotated[float, Field(ge=0, le=3600)]


_NOBODY = re.compile(
    r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|invalid|localhost|test)$", re.IGNORECASE
)
"""The host names that are reserved for examples and tests (RFC 2606)."""

_NEAR = re.compile(r"[^.]+|.*\.(?:example|internal|invalid|local|localhost|test)", re.IGNORECASE)
"""The host names that mean something in a network of one's own only (RFC 2606, RFC 6762)."""


def _is_near(host: str) -> bool:
    """Tell whether what is at this host is a rehearsal's, not the world's."""
    try:
        address = ip_address(host)
    except ValueError:
        return _NEAR.fullmatch(host) is not None
    return address.is_private


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


_MAY_BE_EMPTY = frozenset({"domains", "trusted_proxies"})


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
    def _refuse_what_is_no_value(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what stands for a value, and what pydantic would take for a number."""
        if isinstance(value, str) and not value.strip() and info.field_name not in _MAY_BE_EMPTY:
            raise ValueError("must not be empty")
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
        v2 = urlsplit(self.upstream).hostname or ""
        named = urlsplit(self.contact).hostname or self.contact.rpartition("@")[2]
        if _NOBODY.search(named) and not _is_near(v2):
            raise ValueError(
                f"contact: {self.contact} is nobody's (RFC 2606), and Harvest is to be told yours"
            )
        if self.upstream.startswith("http:") and f".{v2}".endswith(".harvestapp.com"):
            raise ValueError("upstream: must be https: tokens would travel in the clear")
        return self

    def upstream_warning(self) -> str | None:
        """Return what is wrong with `upstream` that may be meant so, None if nothing is."""
        v2 = urlsplit(self.upstream)
        if v2.scheme == "https" or _is_loopback(v2.hostname or ""):
            return None
        return f"tokens travel to {self.upstream} in the clear: it should be https"

    def upstream_client(self) -> "Upstream":
        """Return what the v2 client has to know."""
        from bridge.v2.client import Upstream  # noqa: PLC0415 - most commands call no v2

        return Upstream(self.upstream, f"harvest-bridge/{__version__} ({self.contact})")


class FileSettings(_Part):
    """Where the bridge keeps what it knows."""

    book: Path | None = None
    """The credential book, a TOML file."""
    journal: Path = Path("harvest-bridge-journal.sqlite")
    """The file that keeps what is known of writes, an SQLite database, unless database is a URL."""
    database: Annotated[str, StringConstraints(strip_whitespace=True), _DATABASE] = (
        "harvest-bridge.sqlite"
    )
    """The translation log: an SQLite file, or a URL such as postgresql://user@host/name."""
    database_key: Path | None = None
    """The file with the key of the log's digests; by default, beside the SQLite file."""


class LogSettings(_Part):
    """How the log looks."""

    log_format: LogFormat = LogFormat.AUTO
    """The form of the log lines: json, console, or auto: console on a terminal."""
    log_level: LogLevel = LogLevel.INFO
    """The least serious log lines to write: debug, info, warning or error."""


class Settings(LogSettings, FileSettings, UpstreamSettings):
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
    calls_kept_days: Count = 30
    """Days that the translation log keeps single calls; what is counted stays."""
    calls_kept_bytes: Count = 10 * 1024**3
    """Bytes that the translation log may take; the oldest calls make room."""
    admin_bearer_token: Annotated[str, _REFERENCE] | None = None
    """Where the admin side's token is, env:NAME or file:/path; needed off the loopback."""
    traces: Traces = Traces.OFF
    """Whether to send OpenTelemetry traces: off, or otlp, as the OTEL_ variables say."""

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

    @property
    def admin_is_on_loopback(self) -> bool:
        """Whether only this machine reaches the admin side."""
        return _is_loopback(self.admin_host)

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
    given = {name: value for name, value in flags.items() if value is not None}
    variables = list(_wrong_variables())
    read: Mapping[str, Any] = {}
    try:
        read = {} if file is None else _read(file)
        settings = part(**{**read, **EnvSettingsSource(part)(), **given})
    except ValidationError as error:
        wrong = (_complaint(each, file if each["loc"] else None) for each in error.errors())
        raise WrongSetting("; ".join([*variables, *wrong])) from None
    except OSError as error:
        what = f"config: {file}: {error.strerror} (--config, or {PREFIX}CONFIG)"
        raise WrongSetting(what) from None
    except ValueError as error:
        raise WrongSetting(f"{file}: {error}") from None
    if variables:
        raise WrongSetting("; ".join(variables))
    return settings


PATHS = ("book", "journal", "database_key", "tls_certificate", "tls_key")


def _read(file: Path) -> dict[str, Any]:
    read = tomllib.loads(file.read_text("utf-8"))
    for name in PATHS:
        if isinstance(path := read.get(name), str):
            read[name] = file.parent / path
    database = read.get("database")
    if isinstance(database, str) and database.strip() and "://" not in database:
        read["database"] = str(file.parent / database)
    return read


def unknown_variables() -> Iterator[str]:
    """Return the names of the variables that have the prefix, a value, and no setting."""
    for name in os.environ:
        setting = name.upper().removeprefix(PREFIX).lower()
        is_ours = name.upper().startswith(PREFIX) and os.environ[name]
        if is_ours and setting not in {*Settings.model_fields, "config"}:
            yield name


def _wrong_variables() -> Iterator[str]:
    for name in unknown_variables():
        setting = name[len(PREFIX) :].lower()
        if setting in WITHDRAWN:
            yield f"{name}: there is no such setting"
        elif nearest := _nearest([*Settings.model_fields, "config"], setting):
            yield (
                f"{name}: there is no such setting: did you mean {PREFIX}{nearest.upper()}? "
                "A token of the book may have any name that is less like a setting's"
            )


def _nearest(known: Iterable[str], name: str) -> str | None:
    """Return which of the names that are known was meant, None if that is not to be seen."""
    close = get_close_matches(name.lower().replace("-", "_"), known, 1, 0.75)
    return close[0] if close else None


def where(*names: str) -> str:
    """Return the places where these settings are set, as each complaint ends."""
    places = (
        f"--{name.replace('_', '-')}, {PREFIX}{name.upper()}, or {name} in the file"
        for name in names
    )
    return f"({' and '.join(places)})"


_WAYS = f"{', '.join(tuple(Way)[:-1])} or {tuple(Way)[-1]}"

_MEANINGS: Mapping[str, str] = {
    "enum": "must be {expected}",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "frozen_set_type": "must be a list",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "ip_any_network": 'must be an address or a network such as "10.0.0.0/8"',
    "less_than_equal": "must be at most {le:.0f}",
    "missing": "must be set",
    "path_type": "must be a path",
    "string_type": "must be text",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
}
"""What is said of a value, by pydantic's name for what is wrong with it."""

_PLAIN = re.compile("[A-Za-z0-9._:/-]{1,16}")
"""What may be quoted of a value: a token that has lost its place is longer."""


def _complaint(error: Mapping[str, Any], file: Path | None) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:  # it names its settings itself
        return f"{message} {where(*message.partition(': ')[0].split(', '))}"
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{file}: {name}: {_no_such_setting(name, error['input'])}"
    if meaning := _MEANINGS.get(error["type"]):
        message = meaning.format_map(error.get("ctx", {}))
    if name == "auth" and (error["type"] == "missing" or not error["input"]):
        message = f"must be set: to {_WAYS}, or to several of them"
    elif isinstance(error["input"], str) and _PLAIN.fullmatch(error["input"]):
        message += f": '{error['input']}'"
    return f"{name}: {message} {where(name)}"


def _no_such_setting(name: str, value: object) -> str:
    if isinstance(value, dict):
        return "there is no such setting: they stand at the top level, in no table"
    nearest = _nearest(Settings.model_fields, name)
    return "there is no such setting" + (f": did you mean {nearest}?" if nearest else "")
