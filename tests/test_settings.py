"""Where a setting comes from, and what an operator is told who got one wrong."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from bridge import __version__, settings
from bridge.cli.serve import app
from bridge.identity.callers import Way
from bridge.settings import PREFIX, Settings, UpstreamSettings, WrongSetting
from bridge.v1.dialects import Dialect
from tests.support.books import enter

load = partial(settings.load, Settings)

NEEDED = {"account_id": "1000", "auth": "bearer", "contact": "ops@acme.dev"}
"""What a bridge without a book cannot do without, as flags."""

PARTNERS = {
    "mode": {"legacy_origin": "https://v1.example"},
    "shadow_percent": {"legacy_origin": "https://v1.example"},
    "tls_certificate": {"tls_key": "k.pem"},
    "tls_key": {"tls_certificate": "c.pem"},
}
"""What makes sense only together."""


def others(setting: str) -> dict[str, str]:
    """What has to be given beside a setting, as flags."""
    needed = {name: text for name, text in NEEDED.items() if name != setting}
    return {**needed, **PARTNERS.get(setting, {})}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The TOML file of a test, to be written by it."""
    return tmp_path / "bridge.toml"


def complaint(flags: Mapping[str, Any], file: Path | None = None) -> str:
    """The complaint about these settings, which is checked to be one line."""
    with pytest.raises(WrongSetting) as raised:
        load(flags, file)
    told = str(raised.value)
    assert told.strip()
    assert len(told.splitlines()) == 1
    return told


def names(*settings: str) -> str:
    """How a complaint names settings in each of their places."""
    places = [
        f"--{name.replace('_', '-')}, {PREFIX}{name.upper()}, or {name} in the file"
        for name in settings
    ]
    return f"({' and '.join(places)})"


GIVEN: dict[str, list[tuple[str, str, str, object]]] = {
    # (as a flag, in the environment, as TOML, what is loaded): one row a source, strongest first.
    "account_id": [("1", "1", "1", 1), ("2", "2", "2", 2), ("3", "3", "3", 3)],
    "auth": [
        ("bearer", "bearer", '"bearer"', {Way.BEARER}),
        (
            "token-as-password",
            "token-as-password",
            '["token-as-password"]',
            {Way.TOKEN_AS_PASSWORD},
        ),
        (
            "bearer,token-as-password",
            " bearer , token-as-password ",
            '["bearer", "token-as-password"]',
            {Way.BEARER, Way.TOKEN_AS_PASSWORD},
        ),
    ],
    "contact": [
        (text, text, f'"{text}"', text)
        for text in ("o'b+c@acme.dev", "https://acme.dev:8443/who?a=b#c", "HTTP://www.b-c.org")
    ],
    "upstream": [
        (f"https://{host}/v2", f"https://{host}/v2", f'"https://{host}/v2"', f"https://{host}/v2")
        for host in ("one.example", "two.example:8443", "[::1]")
    ],
    "host": [(host, host, f'"{host}"', host) for host in ("0.0.0.0", "::", "localhost")],
    "port": [("1", "1", "1", 1), ("2", "2", '"2"', 2), ("0", "0", "0", 0)],
    "dialect": [
        ("final", "final", '"final"', Dialect.FINAL),
        ("classic", "classic", '"classic"', Dialect.CLASSIC),
        ("final", "final", '"final"', Dialect.FINAL),
    ],
    "legacy_origin": [
        (f"https://{host}", f"https://{host}", f'"https://{host}/"', f"https://{host}")
        for host in ("{subdomain}.harvestapp.com", "v1.example:8443", "[::1]")
    ],
    "mode": [(text, text, f'"{text}"', text) for text in ("observe", "translate", "observe")],
    "sunset": [
        (f"2027-06-{day}", f"2027-06-{day}", f"2027-06-{day}", date(2027, 6, day))
        for day in (10, 20, 30)
    ],
    "book": [(text, text, f'"{text}"', Path(text)) for text in ("/a", "b", "/c.toml")],
    "domains": [
        ("a.org", "a.org", '"a.org"', ("a.org",)),
        ("a.org, b.org", "a.org,b.org", '["a.org", "b.org"]', ("a.org", "b.org")),
        ("c.org", "c.org", '["c.org"]', ("c.org",)),
    ],
    "shadow_percent": [("1", "1", "1", 1), ("20", "20", "20", 20), ("100", "100", "100", 100)],
    "shadow_ignored": [
        ("//updated-at", "//updated-at", '"//updated-at"', ("//updated-at",)),
        ("/a/b,//@type", "/a/b, //@type", '["/a/b", "//@type"]', ("/a/b", "//@type")),
        ("/a/order()", "/a/order()", '["/a/order()"]', ("/a/order()",)),
    ],
    "subdomain": [(text, text, f'"{text}"', text) for text in ("acme", "b", "c-d")],
    "trusted_proxies": [
        ("10.0.0.0/8", "10.0.0.0/8", '"10.0.0.0/8"', (IPv4Network("10.0.0.0/8"),)),
        ("192.0.2.1", "192.0.2.1", '["192.0.2.1"]', (IPv4Network("192.0.2.1/32"),)),
        (
            "::1,10.1.2.3",
            "::1, 10.1.2.3",
            '["::1", "10.1.2.3"]',
            (IPv6Network("::1/128"), IPv4Network("10.1.2.3/32")),
        ),
    ],
    "tls_certificate": [(text, text, f'"{text}"', Path(text)) for text in ("/a", "b", "/c.pem")],
    "tls_key": [(text, text, f'"{text}"', Path(text)) for text in ("/a", "b", "/c.pem")],
    "admin_host": [(host, host, f'"{host}"', host) for host in ("0.0.0.0", "::", "localhost")],
    "admin_port": [("1", "1", "1", 1), ("2", "2", '"2"', 2), ("0", "0", "0", 0)],
    "connections": [("1", "1", "1", 1), ("2", "2", "2", 2), ("3", "3", "3", 3)],
    "body_limit": [("1", "1", "1", 1), ("2", "2", "2", 2), ("3", "3", "3", 3)],
    "call_timeout": [("1.5", "1.5", "1.5", 1.5), ("2", "2", "2", 2.0), ("3", "3", "3", 3.0)],
    "calls_per_account": [("1", "1", "1", 1), ("2", "2", "2", 2), ("3", "3", "3", 3)],
    "throttle_wait": [("1.5", "1.5", "1.5", 1.5), ("2", "2", "2", 2.0), ("3", "3", "3", 3.0)],
    "journal": [(text, text, f'"{text}"', Path(text)) for text in ("/a", "b", "/c.sqlite")],
    "database": [(text, text, f'"{text}"', text) for text in ("/a", "postgresql://b/c", "/c.db")],
    "database_key": [(text, text, f'"{text}"', Path(text)) for text in ("/a", "b", "/c.key")],
    "calls_kept_days": [("1", "1", "1", 1), ("2", "2", "2", 2), ("3", "3", "3", 3)],
    "calls_kept_bytes": [("1", "1", "1", 1), ("2", "2", "2", 2), ("3", "3", "3", 3)],
    "brownout": [
        (text, text, f'"{text}"', text)
        for text in ("Tue 10:00-10:15", "Mon-Fri 9:00-9:05, 15:00-15:05", "2027-03-01 9:00-9:30")
    ],
    "brownout_time_zone": [
        (text, text, f'"{text}"', text) for text in ("Europe/Berlin", "America/New_York", "UTC")
    ],
    "brownout_message": [
        (text, text, f'"{text}"', text)
        for text in ("Ask Jane.", "Übersiedeln!", "https://acme.dev")
    ],
    "log_format": [(text, text, f'"{text}"', text) for text in ("json", "console", "auto")],
    "log_level": [(text, text, f'"{text}"', text) for text in ("debug", "warning", "error")],
    "admin_bearer_token": [
        (text, text, f'"{text}"', text) for text in ("env:A", "file:/b", "env:C")
    ],
    "traces": [(text, text, f'"{text}"', text) for text in ("otlp", "off", "otlp")],
    "repeat_window": [("1.5", "1.5", "1.5", 1.5), ("2", "2", "2", 2.0), ("0", "0", "0", 0.0)],
    "stop_timeout": [("1.5", "1.5", "1.5", 1.5), ("2", "2", "2", 2.0), ("0", "0", "0", 0.0)],
}

DEFAULTS = {
    "account_id": None,
    "book": None,
    "domains": ("harvestapp.com",),
    "subdomain": None,
    "legacy_origin": None,
    "mode": "translate",
    "trusted_proxies": (),
    "tls_certificate": None,
    "tls_key": None,
    "admin_host": "127.0.0.1",
    "admin_port": 8090,
    "connections": 10_000,
    "upstream": "https://api.harvestapp.com/v2",
    "host": "127.0.0.1",
    "port": 8080,
    "dialect": None,
    "shadow_percent": 0,
    "shadow_ignored": (),
    "sunset": None,
    "body_limit": 1024 * 1024,
    "call_timeout": 30.0,
    "calls_per_account": 100,
    "throttle_wait": 0.0,
    "journal": Path("harvest-bridge-journal.sqlite"),
    "database": "harvest-bridge.sqlite",
    "database_key": None,
    "calls_kept_days": 30,
    "calls_kept_bytes": 10 * 1024**3,
    "brownout": None,
    "brownout_time_zone": "UTC",
    "brownout_message": (
        "Harvest is switching API v1 off. Call v2: https://help.getharvest.com/api-v2/"
    ),
    "log_format": "auto",
    "log_level": "info",
    "admin_bearer_token": None,
    "traces": "off",
    "repeat_window": 12 * 3600.0,
    "stop_timeout": 30.0,
}


def test_every_setting_is_tried_here() -> None:
    assert set(GIVEN) == set(Settings.model_fields)
    assert {*DEFAULTS, "auth", "contact"} == set(Settings.model_fields)


@pytest.mark.parametrize("setting", GIVEN)
class TestSources:
    """Each setting is given differently in every source: the strongest one must be heard."""

    def given(
        self, setting: str, monkeypatch: pytest.MonkeyPatch, config: Path, sources: set[str]
    ) -> object:
        flags = others(setting)
        flag, environment, file = GIVEN[setting]
        if "flag" in sources:
            flags[setting] = flag[0]
        if "environment" in sources:
            monkeypatch.setenv(f"{PREFIX}{setting.upper()}", environment[1])
        config.write_text(f"{setting} = {file[2]}\n" if "file" in sources else "")
        return getattr(load(flags, config), setting)

    def test_a_flag_comes_first(
        self, setting: str, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        value = self.given(setting, monkeypatch, config, {"flag", "environment", "file"})

        assert value == GIVEN[setting][0][3]

    def test_then_the_environment(
        self, setting: str, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        value = self.given(setting, monkeypatch, config, {"environment", "file"})

        assert value == GIVEN[setting][1][3]

    def test_then_the_file(
        self, setting: str, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        assert self.given(setting, monkeypatch, config, {"file"}) == GIVEN[setting][2][3]

    def test_an_empty_variable_is_none(
        self, setting: str, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        monkeypatch.setenv(f"{PREFIX}{setting.upper()}", "")

        assert self.given(setting, monkeypatch, config, {"file"}) == GIVEN[setting][2][3]

    def test_a_flag_that_is_not_given_is_none(
        self, setting: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"{PREFIX}{setting.upper()}", GIVEN[setting][1][1])

        flags = {**others(setting), setting: None}

        assert getattr(load(flags, None), setting) == GIVEN[setting][1][3]


@pytest.mark.parametrize(("setting", "default"), DEFAULTS.items())
def test_else_it_has_its_default(setting: str, default: object) -> None:
    with_book = {"auth": "book", "book": "book.toml", "contact": "ops@acme.dev"}
    flags = with_book if setting == "account_id" else NEEDED

    assert getattr(load(flags, None), setting) == default


class TestComplaints:
    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ({"auth": "book"}, "book: must be set when auth has book"),
            ({"auth": "bearer"}, "account_id: must be set when auth has a way without a book"),
            (
                {"auth": "bearer", "account_id": "1", "shadow_percent": "1"},
                "legacy_origin: must be set when shadow_percent is",
            ),
            (
                {"auth": "book", "book": "b", "mode": "observe"},
                "legacy_origin: must be set when mode is observe",
            ),
            (
                {"auth": "book", "book": "b", "legacy_origin": "http://{subdomain}.harvestapp.com"},
                "legacy_origin: must be https: passwords would travel in the clear",
            ),
            (
                {"auth": "book", "book": "b", "tls_key": "k"},
                "tls_certificate, tls_key: must be set together",
            ),
            (
                {"auth": "book", "book": "b", "port": "8090"},
                "port, admin_port: must differ, as both sides are at one address",
            ),
        ],
    )
    def test_what_makes_sense_only_together(self, flags: dict[str, str], told: str) -> None:
        names_of = told.partition(":")[0].split(", ")

        assert complaint({"contact": "ops@acme.dev", **flags}) == f"{told} {names(*names_of)}"

    @pytest.mark.parametrize(
        ("setting", "told"),
        [
            ("auth", "set: to book, token-as-password or bearer, or to several of them"),
            ("contact", "set"),
        ],
    )
    def test_what_has_no_default_must_be_set(self, setting: str, told: str) -> None:
        flags = {name: text for name, text in NEEDED.items() if name != setting}

        assert complaint(flags) == f"{setting}: must be {told} {names(setting)}"

    @pytest.mark.parametrize(
        ("setting", "text", "told"),
        [
            ("account_id", "0", "must be at least 1: '0'"),
            ("account_id", "abc", "must be a whole number: 'abc'"),
            (
                "auth",
                "",
                "must be set: to book, token-as-password or bearer, or to several of them",
            ),
            ("auth", "bok", "must be 'book', 'token-as-password' or 'bearer': 'bok'"),
            ("book", "", "must not be empty"),
            ("call_timeout", "0", "must be more than 0: '0'"),
            ("call_timeout", "soon", "must be a number: 'soon'"),
            ("dialect", "modern", "must be 'classic' or 'final': 'modern'"),
            ("host", "", "must not be empty"),
            (
                "legacy_origin",
                "v1.example",
                "must be an http or https URL such as https://{subdomain}.harvestapp.com: 'v1.example'",
            ),
            (
                "legacy_origin",
                "https://h/v1",
                "must have no path: that of each call is added: 'https://h/v1'",
            ),
            (
                "legacy_origin",
                "https://a.{subdomain}.example",
                "must have {subdomain} as the first label of the host name",
            ),
            (
                "legacy_origin",
                "https://{sub}.example",
                "must have {subdomain} once at most, and no other braces",
            ),
            ("port", "70000", "must be at most 65535: '70000'"),
            ("port", "abc", "must be a whole number: 'abc'"),
            ("repeat_window", "99999999", "must be at most 31622400: '99999999'"),
            (
                "trusted_proxies",
                "10.0.0.1, proxy",
                "must be an address or a network such as \"10.0.0.0/8\": 'proxy'",
            ),
            ("upstream", "", "must not be empty"),
        ],
    )
    def test_it_is_told_in_an_operators_words(self, setting: str, text: str, told: str) -> None:
        assert complaint({**NEEDED, setting: text}) == f"{setting}: {told} {names(setting)}"

    def test_what_may_be_a_token_is_not_quoted(self) -> None:
        token = "1234567.pt.abcdefghijklmnopqrstuvwxyz"

        assert token not in complaint({**NEEDED, "port": token})

    @pytest.mark.parametrize(
        ("setting", "text"),
        [
            ("account_id", "0"),
            ("account_id", "-1"),
            ("account_id", "acme"),
            ("account_id", "1.5"),
            ("auth", ""),
            ("auth", ","),
            ("auth", "basic"),
            ("auth", "bearer,basic"),
            ("auth", "bearer token-as-password"),
            ("contact", ""),
            ("contact", "   "),
            ("contact", "ops@acme.dev\r\nX-Evil: 1"),
            ("contact", "Ops (ops@acme.dev)"),
            ("contact", "öps@acme.test"),
            ("contact", "x"),
            ("contact", "ops@"),
            ("contact", "ops@localhost"),
            ("contact", "ops at acme.test"),
            ("contact", "Ops <ops@acme.dev>"),
            ("contact", "acme.test"),
            ("contact", "https://localhost/"),
            ("contact", "https://acme.test/who are we"),
            ("contact", "ftp://acme.test/"),
            ("port", "-1"),
            ("port", "65536"),
            ("port", "http"),
            ("dialect", "modern"),
            ("dialect", ""),
            ("shadow_percent", "101"),
            ("shadow_percent", "-1"),
            ("shadow_ignored", "updated-at"),
            ("shadow_ignored", "/a/b,/c/@d/e"),
            ("brownout", "Tue"),
            ("brownout", "Tue 10:00"),
            ("brownout", "daily 00:00-24:00"),
            ("brownout_time_zone", "Mars"),
            ("brownout_time_zone", "../etc"),
            ("brownout_message", "two\nlines"),
            ("brownout_message", "x" * 301),
            ("sunset", "soon"),
            ("sunset", "2027-02-30"),
            ("sunset", "30.06.2027"),
            ("sunset", "1814313600"),
            ("sunset", "2027-06-30T00:00:00"),
            ("body_limit", "0"),
            ("body_limit", "1M"),
            ("call_timeout", "0"),
            ("call_timeout", "-1"),
            ("call_timeout", "3601"),
            ("call_timeout", "nan"),
            ("call_timeout", "inf"),
            ("connections", "0"),
            ("trusted_proxies", "10.0.0.1/8"),
        ],
    )
    def test_what_makes_no_sense_is_named_in_each_of_its_places(
        self, setting: str, text: str, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        told = complaint({**NEEDED, setting: text})

        assert told.startswith(f"{setting}: ")
        assert told.endswith(names(setting))
        assert "Value error" not in told
        config.write_text(f"{setting} = '''{text}'''\n", encoding="utf-8", newline="")
        assert complaint(others(setting), config) == told
        if text:
            monkeypatch.setenv(f"{PREFIX}{setting.upper()}", text)
            assert complaint(others(setting)) == told

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("", id="empty"),
            pytest.param("api.harvestapp.com", id="host-alone"),
            pytest.param("api.harvestapp.com/v2", id="no-scheme"),
            pytest.param("//api.harvestapp.com/v2", id="scheme-missing"),
            pytest.param("ftp://api.harvestapp.com/v2", id="other-scheme"),
            pytest.param("file:///v2", id="file"),
            pytest.param("https:///v2", id="no-host"),
            pytest.param("https://:443/v2", id="port-alone"),
            pytest.param("https://[::1/v2", id="bracket"),
            pytest.param("https://api.harvestapp.com/v2?x=1", id="query"),
            pytest.param("https://api.harvestapp.com/v2#x", id="fragment"),
            pytest.param("https://jane:pass@api.harvestapp.com/v2", id="user-and-password"),
            pytest.param("https://jane@api.harvestapp.com/v2", id="user"),
            pytest.param("https://api.harvestapp.com/v 2", id="blank"),
            pytest.param("https://api.harvestapp.com/v2\n", id="newline"),
            pytest.param("https://api.harvestapp.com/vé", id="not-ascii"),
            pytest.param("https://api.harvestapp.com/v2?", id="empty-query"),
            pytest.param("https://api.harvestapp.com/v2#", id="empty-fragment"),
            pytest.param("https://api.harvestapp.com:port/v2", id="port-is-no-number"),
            pytest.param("https://api.harvestapp.com:99999/v2", id="port-too-large"),
            pytest.param("https://api.harvestapp.com:0/v2", id="port-zero"),
        ],
    )
    def test_an_upstream_must_be_a_plain_url(self, url: str) -> None:
        told = complaint({**NEEDED, "upstream": url})

        assert told.startswith("upstream: ")
        assert told.endswith(names("upstream"))

    @pytest.mark.parametrize("setting", GIVEN)
    @pytest.mark.parametrize("value", ["true", "false", "[true]"])
    def test_no_setting_is_true_or_false(self, setting: str, value: str, config: Path) -> None:
        """To Python, they are numbers: `port = true` would be port 1."""
        config.write_text(f"{setting} = {value}\n")

        assert complaint(others(setting), config).startswith(f"{setting}: ")

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            pytest.param("sunset", "86400", id="a-day-in-seconds"),
            pytest.param("sunset", "2027-06-30T00:00:00Z", id="a-point-in-time"),
            pytest.param("trusted_proxies", "[1]", id="an-address-as-a-number"),
            pytest.param("contact", "5", id="a-number-for-text"),
            pytest.param("book", "5", id="a-number-for-a-path"),
            pytest.param("port", "[8080]", id="a-list-for-a-number"),
        ],
    )
    def test_no_number_stands_for_something_else(
        self, setting: str, value: str, config: Path
    ) -> None:
        config.write_text(f"{setting} = {value}\n")

        assert complaint(others(setting), config).startswith(f"{setting}: ")

    @pytest.mark.parametrize("setting", GIVEN)
    def test_a_placeholder_is_no_value(self, setting: str) -> None:
        told = complaint({**NEEDED, setting: "<your own>"})

        assert told.startswith(f"{setting}: a placeholder stands here: put your own value")

    @pytest.mark.parametrize(
        "contact",
        [
            "ops@example.com",
            "ops@EXAMPLE.org",
            "ops@mail.example.net",
            "jane@acme.example",
            "ops@acme.test",
            "ops@acme.invalid",
            "https://example.com",
            "https://www.example.org:8443/who",
        ],
    )
    def test_harvest_is_not_told_a_name_out_of_an_example(self, contact: str) -> None:
        told = complaint({**NEEDED, "contact": contact})

        assert told == (
            f"contact: {contact} is nobody's (RFC 2606), and Harvest is to be told yours "
            f"{names('contact')}"
        )

    @pytest.mark.parametrize(
        ("host", "is_near"),
        [
            ("localhost:8081", True),
            ("127.0.0.1:8081", True),
            ("[::1]", True),
            ("10.1.2.3", True),
            ("sandbox:8081", True),
            ("v2.corp.internal", True),
            ("v2.acme.dev", False),
            ("8.8.8.8", False),
        ],
    )
    def test_but_a_rehearsal_is(self, host: str, is_near: bool) -> None:
        flags = {**NEEDED, "contact": "you@example.com", "upstream": f"https://{host}/v2"}

        if is_near:
            assert load(flags, None).contact == "you@example.com"
        else:
            assert complaint(flags).startswith("contact: ")

    @pytest.mark.parametrize("host", ["api.harvestapp.com", "harvestapp.com", "API.HarvestApp.com"])
    def test_harvest_is_not_sent_tokens_in_the_clear(self, host: str) -> None:
        told = complaint({**NEEDED, "upstream": f"http://{host}/v2"})

        assert told == (
            f"upstream: must be https: tokens would travel in the clear {names('upstream')}"
        )

    @pytest.mark.parametrize(
        ("upstream", "is_warned_of"),
        [
            ("http://sandbox:8081/v2", True),
            ("http://10.0.0.1/v2", True),
            ("https://sandbox/v2", False),
            ("http://localhost:8081/v2", False),
            ("http://127.0.0.1:8081/v2", False),
            ("http://[::1]:8081/v2", False),
        ],
    )
    def test_others_may_be_with_a_warning(self, upstream: str, is_warned_of: bool) -> None:
        warning = load({**NEEDED, "upstream": upstream}, None).upstream_warning()

        assert (warning is not None) == is_warned_of

    @pytest.mark.parametrize("contact", ["ops@example.acme.dev", "https://acme.dev/example.com"])
    def test_what_only_looks_like_an_example_will_do(self, contact: str) -> None:
        assert load({**NEEDED, "contact": contact}, None).contact == contact

    def test_a_password_in_it_is_not_repeated(self) -> None:
        assert "s3cret" not in complaint({**NEEDED, "upstream": "https://jane:s3cret@h/v2"})

    def test_every_wrong_setting_is_told_at_once(self) -> None:
        told = complaint({**NEEDED, "port": "x", "connections": "0", "sunset": "soon"})

        assert sorted(part.partition(":")[0] for part in told.split("; ")) == [
            "connections",
            "port",
            "sunset",
        ]

    @given(
        st.dictionaries(
            st.sampled_from(list(GIVEN)), st.text(alphabet=st.characters(exclude_categories=()))
        )
    )
    def test_whatever_is_given_it_is_one_line(self, flags: dict[str, str]) -> None:
        try:
            load({**NEEDED, **flags}, None)
        except WrongSetting as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017 - not every one is wrong


@pytest.mark.parametrize("setting", ["bodies_limit", "calls", "head_timeout", "page_limit"])
class TestWithdrawn:
    """Whoever has set what can no longer be set is told so, not left in a belief."""

    def test_in_the_environment(self, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{PREFIX}{setting.upper()}", "1")

        told = complaint(NEEDED)
        assert told.startswith(f"{PREFIX}{setting.upper()}: there is no such setting")

    def test_in_the_file(self, setting: str, config: Path) -> None:
        config.write_text(f"{setting} = 1\n")

        assert complaint(NEEDED, config).startswith(
            f"{config}: {setting}: there is no such setting"
        )


class TestVariables:
    """Each with the prefix is a setting's or a token's: what is not heard is told."""

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [("PRT", "PORT"), ("CONTACTS", "CONTACT"), ("CONFG", "CONFIG"), ("TLSKEY", "TLS_KEY")],
    )
    def test_a_slip_of_the_pen_is_told(
        self, name: str, nearest: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"{PREFIX}{name}", "80")
        slip = f"{PREFIX}{name}: there is no such setting: did you mean {PREFIX}{nearest}?"

        assert complaint(NEEDED) == slip
        both = complaint({**NEEDED, "port": "x"}).split("; ")
        assert [each.partition(":")[0] for each in both] == [f"{PREFIX}{name}", "port"]

    def test_so_is_every_other_that_is_nobodys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{PREFIX}FRIDGE", "cold")
        monkeypatch.setenv(f"{PREFIX}EMPTY", "")

        assert complaint(NEEDED) == (
            f"{PREFIX}FRIDGE: there is no such setting, and no env:{PREFIX}FRIDGE in the book or "
            "admin_bearer_token"
        )

    @pytest.mark.parametrize("name", ["ACME_TOKEN", "TOKEN", "CONTACTS"])
    def test_the_books_tokens_are_known(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        book = tmp_path / "book.toml"
        enter(book, "acme", "jane@doe.org", "w", 1, f"env:{PREFIX}{name}")
        monkeypatch.setenv(f"{PREFIX}{name}", "t0ken")

        assert load({**NEEDED, "book": str(book)}, None).book == book
        some = settings.load(UpstreamSettings, {**NEEDED, "book": str(book)}, None)
        assert some.contact == NEEDED["contact"]

    def test_where_the_book_cannot_be_read_that_is_what_there_is_to_tell(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv(f"{PREFIX}ACME_TOKEN", "t0ken")

        book = tmp_path / "none.toml"

        assert load({**NEEDED, "book": str(book)}, None).book == book

    def test_the_admin_sides_token_is_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{PREFIX}SECRET", "t0ken")

        reference = f"env:{PREFIX}SECRET"

        given = {**NEEDED, "admin_bearer_token": reference}
        assert load(given, None).admin_bearer_token == reference

    def test_what_kubernetes_sets_for_a_service_is_told_with_the_remedy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """https://kubernetes.io/docs/tutorials/services/connect-applications-service/"""
        links = {
            "ADMIN_PORT": "tcp://10.0.0.2:8090",
            "PORT": "tcp://10.0.0.1:8080",
            "PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "PORT_8080_TCP_ADDR": "10.0.0.1",
            "PORT_8080_TCP_PORT": "8080",
            "PORT_8080_TCP_PROTO": "tcp",
            "SERVICE_HOST": "10.0.0.1",
            "SERVICE_PORT": "8080",
            "SERVICE_PORT_HTTP": "8080",
        }
        for name, text in links.items():
            monkeypatch.setenv(f"{PREFIX}{name}", text)

        assert complaint(NEEDED) == (
            f"{', '.join(f'{PREFIX}{name}' for name in links)}: set by Kubernetes for a Service of "
            "that name: set enableServiceLinks: false in the pod's spec, or call the Service "
            "something else"
        )

    @pytest.mark.parametrize("name", ["FRIDGE", "PRT", "SERVICE_HOST"])
    def test_a_command_that_takes_some_settings_leaves_the_others_alone(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"{PREFIX}{name}", "cold")

        assert settings.load(UpstreamSettings, NEEDED, None).contact == NEEDED["contact"]

    def test_but_is_told_a_slip_in_the_name_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"{PREFIX}UPSTEAM", "https://v2.acme.dev/v2")

        with pytest.raises(WrongSetting, match="did you mean HARVEST_BRIDGE_UPSTREAM"):
            settings.load(UpstreamSettings, NEEDED, None)


class TestWhereASettingComesFrom:
    def test_the_strongest_source_is_named_with_its_place(
        self, monkeypatch: pytest.MonkeyPatch, config: Path
    ) -> None:
        config.write_text(
            "# ours\nport = 1\n\n 'host' = 'a'\ndomains = [\n'b.org']\nsunset=2027-06-30\n"
        )
        monkeypatch.setenv(f"{PREFIX.lower()}host", "c")

        found = settings.sources({"port": "2", "contact": None}, config)

        assert {name: source for name, source in found.items() if source.place} == {
            "domains": ("file", f"{config}:5"),
            "host": ("variable", f"{PREFIX.lower()}host"),
            "port": ("flag", "--port"),
            "sunset": ("file", f"{config}:7"),
        }
        assert found["contact"] == ("default", "")

    def test_a_file_that_cannot_be_read_has_none(self, config: Path) -> None:
        with pytest.raises(WrongSetting, match="config: "):
            settings.sources({}, config)


def test_what_is_taken_at_a_reload_is_a_setting() -> None:
    assert set(Settings.model_fields) > settings.RELOADED


class TestFile:
    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("prot = 8080", "prot: there is no such setting: did you mean port?"),
            ('admin-host = "::"', "admin-host: there is no such setting: did you mean admin_host?"),
            ('listen = "::"', "listen: there is no such setting"),
            (
                "[server]\nport = 8080",
                "server: there is no such setting: they stand at the top level, in no table",
            ),
        ],
    )
    def test_an_unknown_key_is_named_with_its_file(
        self, config: Path, line: str, told: str
    ) -> None:
        config.write_text(f"{line}\n")

        assert complaint(NEEDED, config) == f"{config}: {told}"

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"port 8080\n", id="no-equals-sign"),
            pytest.param(b"port = 1\nport = 2\n", id="twice"),
            pytest.param(b'host = "localhost\n', id="open-quote"),
            pytest.param(b'contact = "\xff"\n', id="not-utf-8"),
            pytest.param(b"auth = " + b"[" * 5000, id="nested too deeply"),
            pytest.param(b"#" * (1024 * 1024 + 1), id="huge"),
            pytest.param(b"\0", id="binary"),
        ],
    )
    def test_broken_toml_is_told_with_the_files_name(self, config: Path, content: bytes) -> None:
        config.write_bytes(content)

        assert complaint(NEEDED, config).startswith(f"{config}: ")

    def test_a_missing_file_is_told_with_its_name(self, config: Path) -> None:
        assert complaint(NEEDED, config) == (
            f"config: {config}: No such file or directory (--config, or {PREFIX}CONFIG)"
        )

    def test_a_folder_is_told_with_its_name(self, tmp_path: Path) -> None:
        assert complaint(NEEDED, tmp_path).startswith(f"config: {tmp_path}: Is a directory ")

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        pipe = tmp_path / "bridge.toml"
        os.mkfifo(pipe)

        assert complaint(NEEDED, pipe) == f"{pipe}: it is not a regular file"

    def test_a_device_without_end_is_not_read(self) -> None:
        told = complaint(NEEDED, Path("/dev/zero"))

        assert told == "/dev/zero: it is not a regular file"

    def test_nothing_is_a_file_without_settings(self) -> None:
        assert load(NEEDED, Path(os.devnull)) == load(NEEDED, None)

    @pytest.mark.parametrize("place", ["flag", "file"])
    @pytest.mark.parametrize("setting", settings.PATHS)
    def test_a_url_in_the_place_of_a_path_is_refused_and_not_quoted(
        self, config: Path, setting: str, place: str
    ) -> None:
        url = "postgresql://u:pw@h/d"
        config.write_text(f'{setting} = "{url}"\n' if place == "file" else "")
        flags = {**NEEDED, **({setting: url} if place == "flag" else {})}

        told = complaint(flags, config)

        assert told.startswith(f"{setting}: must be the path of a file: only database can be a URL")
        assert "pw" not in told

    def test_an_unreadable_file_is_told_with_its_name(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)  # a mode of 0 does not stop root

        assert complaint(NEEDED, config) == (
            f"config: {config}: Permission denied (--config, or {PREFIX}CONFIG)"
        )

    @pytest.mark.parametrize("setting", settings.PATHS)
    def test_a_relative_path_starts_from_its_folder(
        self, setting: str, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config.write_text(f'{setting} = "../beside/it"\n')

        assert getattr(load(others(setting), config), setting) == config.parent / "../beside/it"
        monkeypatch.setenv(f"{PREFIX}{setting.upper()}", "../beside/it")
        assert getattr(load(others(setting), config), setting) == Path("../beside/it")

    def test_a_database_file_starts_from_its_folder_and_a_url_does_not(self, config: Path) -> None:
        config.write_text('database = "../calls.sqlite"\n')
        assert load(NEEDED, config).database == f"{config.parent}/../calls.sqlite"

        config.write_text('database = "postgresql://db/calls"\n')
        assert load(NEEDED, config).database == "postgresql://db/calls"

    def test_a_reference_has_no_path_that_could_start_from_somewhere(self, config: Path) -> None:
        config.write_text('admin_bearer_token = "file:token"\n')

        told = "admin_bearer_token: must be env:NAME or file:/absolute/path"
        assert complaint(NEEDED, config).startswith(told)

    def test_every_setting_that_is_a_path_is_known_as_one(self) -> None:
        fields = Settings.model_fields.items()

        paths = [name for name, each in fields if "Path" in f"{each.annotation}"]
        assert tuple(paths) == settings.PATHS

    def test_an_empty_file_changes_nothing(self, config: Path) -> None:
        config.write_text("# nothing yet\n")

        assert load(NEEDED, config).model_dump() == load(NEEDED, None).model_dump()


OPTIONS = {
    parameter.name: parameter for parameter in typer.main.get_group(app).commands["serve"].params
}
"""The flags of `serve`, by the names of their settings."""


class TestFlags:
    """What `serve` offers is what can be set."""

    def test_every_setting_has_one_and_none_is_left_over(self) -> None:
        assert set(OPTIONS) == {*Settings.model_fields, "config"}

    @pytest.mark.parametrize("setting", Settings.model_fields)
    def test_it_has_the_settings_name(self, setting: str) -> None:
        assert OPTIONS[setting].opts == ["--" + setting.replace("_", "-")]

    @pytest.mark.parametrize("setting", Settings.model_fields)
    def test_its_help_says_what_it_means_its_variable_and_its_default(self, setting: str) -> None:
        field = Settings.model_fields[setting]
        shown: str = getattr(OPTIONS[setting], "help")  # noqa: B009 - of options only

        assert field.description is not None
        assert re.fullmatch(r"[A-Z].{10,}\.", field.description)
        meaning, _, facts = shown.removesuffix("]").partition(" [")
        variable, *default = facts.split("; ")
        assert (meaning, variable) == (field.description, f"{PREFIX}{setting.upper()}")
        if field.is_required():
            assert default == ["must be set"]
        elif field.default in {None, (), frozenset()}:
            assert default == []
        else:
            given = default[0].removeprefix("default: ")
            assert (
                getattr(load({**others(setting), setting: given}, None), setting) == field.default
            )

    @pytest.mark.parametrize(
        ("setting", "type_"),
        [
            ("account_id", "INTEGER"),
            ("auth", "book|token-as-password|bearer,…"),
            ("book", "PATH"),
            ("call_timeout", "NUMBER"),
            ("dialect", "classic|final"),
            ("domains", "TEXT,…"),
            ("host", "TEXT"),
            ("log_level", "debug|info|warning|error"),
            ("sunset", "DATE"),
            ("trusted_proxies", "NETWORK,…"),
        ],
    )
    def test_it_shows_what_it_takes(self, setting: str, type_: str) -> None:
        assert OPTIONS[setting].metavar == type_

    def test_the_ways_of_calling_are_all_named(self) -> None:
        assert ", ".join(Way) in str(Settings.model_fields["auth"].description)

    @pytest.mark.parametrize("setting", Settings.model_fields)
    def test_it_has_no_default_of_its_own(self, setting: str) -> None:
        assert OPTIONS[setting].default is None


class TestMeaning:
    def test_an_upstream_loses_its_last_slash(self) -> None:
        assert load({**NEEDED, "upstream": "http://h/v2/"}, None).upstream == "http://h/v2"

    def test_a_contact_loses_the_blanks_around_it(self) -> None:
        assert load({**NEEDED, "contact": " a@b.org "}, None).contact == "a@b.org"

    def test_the_user_agent_names_the_application_and_the_contact(self) -> None:
        upstream = load(NEEDED, None).upstream_client()

        assert upstream.user_agent == f"harvest-bridge/{__version__} (ops@acme.dev)"

    def test_the_client_is_told_where_v2_is(self) -> None:
        upstream = load({**NEEDED, "upstream": "http://localhost:8081/v2"}, None).upstream_client()

        assert upstream.base_url == "http://localhost:8081/v2"

    def test_a_sunset_is_the_first_moment_of_its_day(self) -> None:
        settings = load({**NEEDED, "sunset": "2027-06-30"}, None)

        assert settings.sunset_time() == datetime(2027, 6, 30, tzinfo=UTC)

    def test_no_sunset_is_no_moment(self) -> None:
        assert load(NEEDED, None).sunset_time() is None


@pytest.mark.parametrize(
    ("origin", "is_told"),
    [
        ("https://v1.example", False),
        ("http://127.0.0.1:81", False),
        ("http://v1.example", True),
        (None, False),
    ],
)
def test_an_origin_in_the_clear_is_told_of(origin: str | None, is_told: bool) -> None:
    said = load({**NEEDED, "legacy_origin": origin}, None).origin_warning()

    assert (said is not None) is is_told
