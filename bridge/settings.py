"""Every setting once: its type, its default and its meaning. How it is given is said in
docs/configuration.md.

What differs from one installation to another is a setting. What does not is a constant beside the
code that it holds for; the limits among those are in `bridge.server.limits`.
"""

import errno
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self, TypeVar
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
from bridge.identity.book import BookError, read_rows
from bridge.identity.callers import Way
from bridge.identity.hosts import LABEL
from bridge.origin.place import PLACEHOLDER
from bridge.record.log.schedules import Schedule, zone
from bridge.v1.dialects import Dialect

if TYPE_CHECKING:
    from bridge.v2.client import Upstream

PREFIX = "HARVEST_BRIDGE_"


class WrongSetting(Exception):
    """A setting is missing or makes no sense; `str()` is one line for the operator."""

    def __init__(self, *complaints: str) -> None:
        super().__init__("; ".join(complaints))
        self.complaints = complaints
        """One for each setting that is wrong."""


_HARVEST = ".harvestapp.com"

_V2 = "https://api.harvestapp.com/v2"


def _base_url(text: str) -> str:
    if not re.fullmatch("[!-~]+", text):
        raise ValueError("must be percent-encoded")
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"must be an http or https URL such as {_V2}")
    if set("?#@") & set(text):
        raise ValueError("must have no query, fragment or user name")
    if parts.port == 0:  # asking for it raises ValueError where it is no port at all
        raise ValueError("must have a port that can be connected to")
    return text.rstrip("/")


def _origin(text: str) -> str:
    try:
        url = _base_url(text.replace(PLACEHOLDER, "acme"))
    except ValueError as error:
        raise ValueError(str(error).replace(_V2, f"https://{PLACEHOLDER}.harvestapp.com")) from None
    if set(urlsplit(url).path) - {"/"}:
        raise ValueError("must have no path: that of each call is added")
    if set("{}") & set(text.replace(PLACEHOLDER, "", 1)):
        raise ValueError(f"must have {PLACEHOLDER} once at most, and no other braces")
    if PLACEHOLDER in text and not text.partition("://")[2].startswith(f"{PLACEHOLDER}."):
        raise ValueError(f"must have {PLACEHOLDER} as the first label of the host name")
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


def _paths(given: tuple[str, ...]) -> tuple[str, ...]:
    if given:
        from bridge.comparing.paths import Paths  # noqa: PLC0415 - most commands compare nothing

        Paths(given)  # raises ValueError where one is none
    return given


def _text(value: object) -> object:
    """Let only text pass: as an address, a number would be taken, too."""
    if isinstance(value, str):
        return value
    raise ValueError('must be an address or a network such as "10.0.0.0/8"')


def _version(value: object) -> object:
    """Take a version as TOML reads one without quotes, too: as a number."""
    return str(value) if type(value) is float else value


def _ciphers(text: str) -> str:
    """Refuse what OpenSSL takes for no ciphers, or passes over as such without a word."""
    for position, word in enumerate(re.split("[ :,;]+", text), 1):
        if word[:1] not in {"!", "-", "+", "@"} and not _chosen(word):
            # A token that has lost its place looks otherwise, and is not quoted.
            is_like_one = re.fullmatch("[A-Za-z0-9]{1,11}(?:[-+_][A-Za-z0-9]{1,11}){0,7}", word)
            which = f"word {position}, {word}," if is_like_one else f"word {position}"
            raise ValueError(f"{which} is no cipher up to TLS 1.2 that OpenSSL has on this machine")
    ciphers = _chosen(text)
    if not ciphers:
        raise ValueError("must be ciphers as OpenSSL lists them, such as ECDHE+AESGCM:RSA+AES")
    if any(each["auth"] == "auth-null" or each["strength_bits"] == 0 for each in ciphers):
        raise ValueError("must have !aNULL:!eNULL, for ciphers that keep nobody out")
    return text


def _chosen(ciphers: str) -> list[dict[str, Any]]:
    """Return what OpenSSL chooses by a list of ciphers, weak ones too; nothing by what is none."""
    import ssl  # noqa: PLC0415 - most commands listen to nobody

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    except (ssl.SSLError, ValueError):
        return []
    return list(map(dict, context.get_ciphers()))


def _schedule(text: str) -> str:
    return Schedule(text).text


def _time_zone(text: str) -> str:
    return zone(text.strip()).key


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
    r"(?!postgres(?:ql)?(?:\+\w+)?:)(?!\w+://)(?!.*password *=).+|postgresql://[!-~]+",
    "the path of a file, or a URL such as postgresql://user@host/name",
)
_SENTENCE = _like(
    r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]{1,300}", "one line of at most 300 characters"
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


class TlsMinimum(StrEnum):
    """The oldest version of TLS that is spoken."""

    V1_2 = "1.2"
    V1_1 = "1.1"
    V1_0 = "1.0"


class Mode(StrEnum):
    """What becomes of calls."""

    TRANSLATE = "translate"
    OBSERVE = "observe"


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


PATHS = (
    "book", "journal", "database_key",
    "tls_certificate", "tls_key", "tls_second_certificate", "tls_second_key",
)  # fmt: skip
"""The settings that are paths of files."""

_MAY_BE_EMPTY = frozenset({"domains", "shadow_ignored", "trusted_proxies"})


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
        if isinstance(value, str) and info.field_name in PATHS and "://" in value:
            # Which is not quoted: it may have a password.
            raise ValueError("must be the path of a file: only database can be a URL")
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
    upstream: Annotated[str, AfterValidator(_base_url)] = _V2
    """The base URL of v2."""

    @model_validator(mode="after")
    def _is_somebody_to_harvest(self) -> Self:
        v2 = urlsplit(self.upstream).hostname or ""
        named = urlsplit(self.contact).hostname or self.contact.rpartition("@")[2]
        if _NOBODY.search(named) and not _is_near(v2):
            raise ValueError(
                f"contact: {self.contact} is nobody's (RFC 2606), and Harvest is to be told yours"
            )
        if self.upstream.startswith("http:") and f".{v2}".endswith(_HARVEST):
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
    """The SQLite file that keeps what is known of writes; unused where database is a URL."""
    database: Annotated[str, StringConstraints(strip_whitespace=True), _DATABASE] = (
        "harvest-bridge.sqlite"
    )
    """The translation log: an SQLite file, or postgresql://user@host/name, for the journal too."""
    database_key: Path | None = None
    """The file with the key of the log's digests; by default, beside the SQLite file."""


class BrownoutSettings(_Part):
    """When calls are turned away on purpose, and what their clients read."""

    brownout: Annotated[str, AfterValidator(_schedule)] | None = None
    """When calls of all integrations are turned away, such as Tue 10:00-10:15."""
    brownout_time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    """The time zone of brownout, by IANA's name, such as Europe/Berlin."""
    brownout_message: Annotated[str, StringConstraints(strip_whitespace=True), _SENTENCE] = (
        "Harvest is switching API v1 off. Call v2: https://help.getharvest.com/api-v2/"
    )
    """Where to go, for whoever is turned away by a brownout or a sunset: a sentence with a link."""
    repeat_window: Annotated[float, Field(ge=0, le=366 * 86400)] = 12 * 3600.0
    """Seconds in which a write counts as a repetition of one like it whose outcome was not told."""


class LogSettings(_Part):
    """How the log looks."""

    log_format: LogFormat = LogFormat.AUTO
    """The form of the log lines: json, console, or auto: console on a terminal."""
    log_level: LogLevel = LogLevel.INFO
    """The least serious log lines to write: debug, info, warning or error."""


class Settings(LogSettings, BrownoutSettings, FileSettings, UpstreamSettings):
    """What an operator can set."""

    model_config = SettingsConfigDict(extra="forbid")

    mode: Mode = Mode.TRANSLATE
    """What becomes of calls: translate, or observe: v1 answers all, and they are only recorded."""
    legacy_origin: Annotated[str, AfterValidator(_origin)] | None = None
    """Where v1 is, for what is not translated: https://{subdomain}.harvestapp.com."""
    auth: Annotated[frozenset[Way], CommaList, Field(validate_default=True)] = frozenset()
    """The ways of calling to accept, by commas: book, token-as-password, bearer; to be set."""
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
    tls_second_certificate: Path | None = None
    """A certificate beside it with a key of another type: RSA beside ECDSA, for old clients."""
    tls_second_key: Path | None = None
    """The private key of the second certificate, a PEM file."""
    tls_minimum: Annotated[TlsMinimum, BeforeValidator(_version)] = TlsMinimum.V1_2
    """The oldest TLS to speak: 1.2; for clients that know no better, 1.1 or 1.0, which are weak."""
    tls_ciphers: (
        Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_ciphers)] | None
    ) = None
    """The ciphers up to TLS 1.2 as OpenSSL lists them, best first; else what tls_minimum takes."""
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
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Of how many per cent of the GETs both sides are asked, where no command has decided."""
    shadow_ignored: Annotated[tuple[str, ...], CommaList, AfterValidator(_paths)] = ()
    """Where answers may differ, by commas: /payments/payment/notes, //updated-at, //@type."""
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

    @field_validator("auth")
    @classmethod
    def _need_a_way(cls, ways: frozenset[Way], info: ValidationInfo) -> frozenset[Way]:
        if not ways and info.data.get("mode") is not Mode.OBSERVE:
            raise ValueError("must be set")
        return ways

    @model_validator(mode="after")
    def _make_sense_of_the_origin(self) -> Self:
        origin = self.legacy_origin or ""
        if origin.startswith("http:") and f".{urlsplit(origin).hostname}".endswith(_HARVEST):
            raise ValueError("legacy_origin: must be https: passwords would travel in the clear")
        if self.mode is Mode.OBSERVE and self.legacy_origin is None:
            raise ValueError("legacy_origin: must be set when mode is observe")
        if self.shadow_percent and self.legacy_origin is None:
            raise ValueError("legacy_origin: must be set when shadow_percent is")
        return self

    @model_validator(mode="after")
    def _make_sense_together(self) -> Self:
        if Way.BOOK in self.auth and self.book is None:
            raise ValueError("book: must be set when auth has book")
        if self.auth - {Way.BOOK} and self.account_id is None and self.book is None:
            raise ValueError("account_id: must be set when auth has a way without a book")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate, tls_key: must be set together")
        if (self.tls_second_certificate is None) != (self.tls_second_key is None):
            raise ValueError("tls_second_certificate, tls_second_key: must be set together")
        of_tls = "tls_second_certificate", "tls_minimum", "tls_ciphers"
        for name in of_tls if self.tls_certificate is None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is nothing without tls_certificate: no TLS ends here")
        if (self.host, self.port) == (self.admin_host, self.admin_port) and self.port:
            raise ValueError("port, admin_port: must differ, as both sides are at one address")
        return self

    def origin_warning(self) -> str | None:
        """Return what is wrong with `legacy_origin` that may be meant so, None if nothing is."""
        v1 = urlsplit(self.legacy_origin or "")
        if v1.scheme != "http" or _is_loopback(v1.hostname or ""):
            return None
        return f"passwords travel to {self.legacy_origin} in the clear: it should be https"

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine reaches the legacy side."""
        return _is_loopback(self.host)

    @property
    def tls_pairs(self) -> tuple[tuple[Path, Path], ...]:
        """The certificates that are shown, each with its key; none where TLS ends elsewhere."""
        given = (
            (self.tls_certificate, self.tls_key),
            (self.tls_second_certificate, self.tls_second_key),
        )
        return tuple((one, key) for one, key in given if one is not None and key is not None)

    @property
    def admin_is_on_loopback(self) -> bool:
        """Whether only this machine reaches the admin side."""
        return _is_loopback(self.admin_host)

    def sunset_time(self) -> datetime | None:
        """Return the end of the service: the first moment, UTC, of the day that was set."""
        return None if self.sunset is None else datetime.combine(self.sunset, time(), UTC)


RELOADED = frozenset({
    "body_limit", "brownout", "brownout_message", "brownout_time_zone", "call_timeout",
    "calls_kept_bytes", "calls_kept_days", "calls_per_account", "dialect", "domains", "log_level",
    "shadow_ignored", "stop_timeout", "subdomain", "sunset", "throttle_wait", "trusted_proxies",
})  # fmt: skip
"""The settings whose new values a running bridge takes from the file; others take a restart.

None of these makes sense only together with another, and none is a secret.
"""


Part = TypeVar("Part", bound=_Part)


def load(part: type[Part], flags: Mapping[str, Any], file: Path | None) -> Part:
    """Gather settings: from `flags` (None: not given), else the environment, else a TOML file.

    Of `Settings` that is all of them; otherwise, those that are not asked for do not matter. A
    relative path in the file starts from the file's folder, any other from the working directory.

    Raises:
        WrongSetting: one is missing, unknown or makes no sense, or the file cannot be read.
    """
    given, variables, read = _gather(flags, file)
    gathered = {**read, **variables, **given}
    unknown = list(_complaints_of_variables(part, gathered))
    try:
        settings = part(**gathered)
    except ValidationError as error:
        wrong = (_complaint(each, file if each["loc"] else None) for each in error.errors())
        raise WrongSetting(*unknown, *wrong) from None
    except ValueError as error:
        raise WrongSetting(f"{file}: {error}") from None
    if unknown:
        raise WrongSetting(*unknown)
    return settings


Layer = Mapping[str, Any]
"""What one source says, by setting."""


def _gather(flags: Layer, file: Path | None) -> tuple[Layer, Layer, Layer]:
    """Return what the flags, the environment and the file say, the strongest first."""
    given = {name: value for name, value in flags.items() if value is not None}
    variables = {
        name: text
        for name, text in EnvSettingsSource(Settings)().items()
        if not _is_service_link(f"{PREFIX}{name.upper()}", str(text))
    }
    try:
        return given, variables, {} if file is None else _read(file)
    except OSError as error:
        what = f"config: {file}: {error.strerror} (--config, or {PREFIX}CONFIG)"
        raise WrongSetting(what) from None
    except ValueError as error:
        raise WrongSetting(f"{file}: {error}") from None


class Kind(StrEnum):
    """What a setting can come from."""

    FLAG = "flag"
    VARIABLE = "variable"
    FILE = "file"
    DEFAULT = "default"


class Source(NamedTuple):
    """Where a setting comes from."""

    kind: Kind
    place: str
    """The flag's or the variable's name, or the file and the line; nothing for a default."""


def sources(flags: Layer, file: Path | None) -> Mapping[str, Source]:
    """Return where each setting comes from that `load` would gather of the same.

    Raises:
        WrongSetting: the file cannot be read.
    """
    given, variables, read = _gather(flags, file)
    lines = {} if file is None else _lines(_text_of(file))
    names = {name.upper(): name for name in os.environ}
    found = {}
    for name in Settings.model_fields:
        if name in given:
            source = Source(Kind.FLAG, f"--{name.replace('_', '-')}")
        elif name in variables:
            source = Source(Kind.VARIABLE, names[f"{PREFIX}{name.upper()}"])
        elif name in read:
            source = Source(Kind.FILE, f"{file}:{lines[name]}" if name in lines else f"{file}")
        else:
            source = Source(Kind.DEFAULT, "")
        found[name] = source
    return found


_KEY = re.compile(r"[ \t]*[\"']?([A-Za-z0-9_-]+)[\"']?[ \t]*=")


def _lines(toml: str) -> Mapping[str, int]:
    """Return the line of each key of a file without tables."""
    keys = enumerate(map(_KEY.match, toml.split("\n")), 1)
    return {found[1]: number for number, found in reversed([*keys]) if found is not None}


_MOST_BYTES = 1024 * 1024
"""Of a file with settings; what is longer is something else."""


def _text_of(file: Path) -> str:
    # Not to wait for a writer, should it be a pipe.
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as opened:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        is_nothing = os.path.samestat(status, Path(os.devnull).stat())
        if not stat.S_ISREG(status.st_mode) and not is_nothing:
            raise ValueError("it is not a regular file")
        octets = opened.read(_MOST_BYTES + 1)
        after = os.fstat(handle)
    if len(octets) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    if (status.st_size, status.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ValueError("it changed while it was read")
    return octets.decode("utf-8")


def _read(file: Path) -> dict[str, Any]:
    try:
        read = tomllib.loads(_text_of(file))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for name in PATHS:
        if isinstance(path := read.get(name), str) and "://" not in path:
            read[name] = file.parent / path
    database = read.get("database")
    if isinstance(database, str) and database.strip() and "://" not in database:
        read["database"] = str(file.parent / database)
    return read


# What the environment holds besides.


def _complaints_of_variables(part: type[_Part], gathered: Layer) -> Iterator[str]:
    """Say which variables with the prefix are nobody's.

    A bridge wants every one explained: a setting that was meant and is not heard may cost a mail. A
    command that takes only some settings looks for slips in the names of those.
    """
    is_whole = issubclass(part, Settings)
    unknown = sorted(_unknown_variables())
    links = [name for name in unknown if _is_service_link(name, os.environ[name])]
    if links and is_whole:
        yield (
            f"{', '.join(links)}: set by Kubernetes for a Service of that name: set "
            "enableServiceLinks: false in the pod's spec, or call the Service something else"
        )
    others = [name for name in unknown if name not in links]
    nearest = {
        name: _nearest([*part.model_fields, "config"], name[len(PREFIX) :]) for name in others
    }
    if not (others if is_whole else any(nearest.values())):
        return
    named, is_complete = _variables_of_tokens(gathered)
    for name in others:
        what = f"{name}: there is no such setting"
        if name in named:
            continue
        if near := nearest[name]:
            yield f"{what}: did you mean {PREFIX}{near.upper()}?"
        elif is_whole and is_complete:
            yield f"{what}, and no env:{name} in the book or admin_bearer_token"


def _unknown_variables() -> Iterator[str]:
    """Return the names of the variables that have the prefix, a value, and no setting."""
    for name, text in os.environ.items():
        setting = name.upper().removeprefix(PREFIX).lower()
        is_known = setting in {*Settings.model_fields, "config"}
        if (
            name.upper().startswith(PREFIX)
            and text
            and (not is_known or _is_service_link(name, text))
        ):
            yield name


def _variables_of_tokens(gathered: Layer) -> tuple[frozenset[str], bool]:
    """Return which variables hold tokens by the book and `admin_bearer_token`, and if that is all.

    It may not be where the book cannot be read: what is wrong with that is told elsewhere.
    """
    references, is_complete = [gathered.get("admin_bearer_token")], True
    if isinstance(book := gathered.get("book"), str | Path):
        try:
            references += [row.reference for row in read_rows(Path(book))]
        except BookError:
            is_complete = False
    return frozenset(str(each).removeprefix("env:") for each in references), is_complete


_LINK = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_\w+)?)"
)
"""The end of the names of variables by which Kubernetes tells a pod of the Services around it: one
that is called `harvest-bridge` has our prefix."""

_LINKED = re.compile("(?:tcp|udp|sctp)://.*")
"""The value of the one that ends in `_PORT`."""


def _is_service_link(name: str, text: str) -> bool:
    rest = name.upper().removeprefix(PREFIX)
    is_port = rest == "PORT" or rest.endswith("_PORT")
    return _LINK.fullmatch(rest) is not None or (is_port and _LINKED.fullmatch(text) is not None)


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
