"""What is told of the book, the admin token and the certificate before a bridge serves with them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from bridge.checking.files import (
    check_admin_token,
    check_book,
    check_certificate,
    check_tls,
    covers,
)
from bridge.checking.findings import Finding
from bridge.identity.book import read_rows
from bridge.settings import Settings
from tests.support.books import enter, write_token
from tests.support.certificates import put_in_place

NOW = datetime.now(UTC)


def settings(**given: Any) -> Settings:
    needed = {"contact": "ops@acme.dev", "auth": "bearer", "account_id": 1}
    return Settings(**{**needed, **given})


def verdicts(found: Iterator[Finding]) -> list[str]:
    return [each.verdict for each in found]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.toml"
    enter(path, "acme", "jane@doe.org", "w", 1, write_token(tmp_path, "token", "t0ken"))
    return path


class TestBook:
    def test_a_good_one_is_counted(self, book: Path) -> None:
        (found,) = check_book(book)

        assert (found.verdict, found.told) == ("ok", f"{book}: credentials: 1, accounts: 1")

    def test_every_token_that_cannot_be_read_is_told(self, book: Path, tmp_path: Path) -> None:
        enter(book, "acme", "bob@doe.org", "w", 1, "env:NO_SUCH_TOKEN")
        enter(book, "doe", "ann@doe.org", "w", 2, f"file:{tmp_path}/none")
        (tmp_path / "token").chmod(0o644)

        found = [*check_book(book)]

        assert verdicts(iter(found)) == ["wrong"] * 3
        said = " ".join(each.told for each in found)
        assert "NO_SUCH_TOKEN is not set" in said
        assert f"{tmp_path}/none: No such file" in said
        assert f"chmod 600 {tmp_path}/token" in said
        assert "t0ken" not in said

    @pytest.mark.parametrize("spoiled", ["mode", "twice", "missing"])
    def test_one_that_cannot_be_used_is_told(self, book: Path, spoiled: str) -> None:
        if spoiled == "mode":
            book.chmod(0o644)
        elif spoiled == "twice":
            book.write_text(book.read_text() * 2)
        else:
            book.unlink()

        (found,) = check_book(book)

        assert (found.verdict, found.told.startswith(f"{book}: ")) == ("wrong", True)

    def test_hashes_of_several_costs_are_warned_of(self, book: Path, tmp_path: Path) -> None:
        enter(book, "acme", "bob@doe.org", "w", 1, f"file:{tmp_path}/token")
        book.write_text(book.read_text().replace("m=8,t=1", "m=16,t=1", 1))

        assert verdicts(check_book(book)) == ["warning", "ok"]


class TestAdminToken:
    @pytest.mark.parametrize(
        ("given", "verdict"),
        [
            ({}, "ok"),
            ({"admin_host": "0.0.0.0"}, "warning"),
            ({"admin_bearer_token": "env:NO_SUCH_TOKEN"}, "wrong"),
            ({"admin_bearer_token": "env:ADMIN_TOKEN"}, "ok"),
            ({"admin_bearer_token": "env:ADMIN_TOKEN", "admin_host": "0.0.0.0"}, "warning"),
        ],
    )
    def test_it_is_needed_off_the_loopback(
        self, given: dict[str, Any], verdict: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ADMIN_TOKEN", "0123456789abcdef")

        found = check_admin_token(settings(**given))

        assert found.verdict == verdict
        assert "0123456789abcdef" not in found.told


class TestCertificate:
    def issued(self, folder: Path, *names: str, days: int = 90, chain: str = "") -> Settings:
        authority = trustme.CA()
        ends = NOW + timedelta(days=days, hours=1)
        begins = NOW - timedelta(days=100)
        between = authority.create_child_ca()
        made = between.issue_cert(*names, not_before=begins, not_after=ends)
        server, *others = (each.bytes() for each in made.cert_chain_pems)
        issuers = [*others, trustme.CA().cert_pem.bytes()] if chain == "stranger" else others
        certificate, key = folder / "tls.crt", folder / "tls.key"
        key.touch(0o600)
        certificate.write_bytes(b"".join([server, *issuers]))
        key.write_bytes(made.private_key_pem.bytes())
        return settings(tls_certificate=certificate, tls_key=key)

    @pytest.mark.parametrize(
        ("days", "verdict"), [(90, "ok"), (21, "ok"), (20, "warning"), (-2, "wrong")]
    )
    def test_its_days_are_told(self, tmp_path: Path, days: int, verdict: str) -> None:
        given = self.issued(tmp_path, "acme.harvestapp.com", days=days)

        (found,) = check_certificate(given, ())

        assert found.verdict == verdict

    def test_a_chain_out_of_order_is_told(self, tmp_path: Path) -> None:
        given = self.issued(tmp_path, "acme.harvestapp.com", chain="stranger")

        assert ["is not of who issued" in each.told for each in check_certificate(given, ())] == [
            True
        ]

    @pytest.mark.parametrize(
        ("name", "is_covered"),
        [
            ("acme.harvestapp.com", True),
            ("*.harvestapp.com", True),
            ("doe.harvestapp.com", False),
            ("*.acme.harvestapp.com", False),
            ("bridge.internal", False),
        ],
    )
    def test_the_books_subdomains_have_to_be_in_it(
        self, tmp_path: Path, book: Path, name: str, is_covered: bool
    ) -> None:
        given = self.issued(tmp_path, name)

        (found,) = check_certificate(given, read_rows(book))

        assert found.verdict == ("ok" if is_covered else "warning")
        assert is_covered or found.told.endswith("the book's subdomain: acme")

    def test_a_name_of_ones_own_is_not_judged(self, tmp_path: Path, book: Path) -> None:
        given = self.issued(tmp_path, "bridge.internal").model_copy(update={"subdomain": "acme"})

        assert verdicts(check_certificate(given, read_rows(book))) == ["ok"]

    def test_a_key_of_another_is_told(self, tmp_path: Path) -> None:
        given = self.issued(tmp_path, "acme.harvestapp.com")
        another = trustme.CA().issue_cert("x.org").private_key_pem
        (tmp_path / "tls.key").write_bytes(another.bytes())

        (found,) = check_certificate(given, ())

        assert found.verdict == "wrong"
        assert "the private key is not that of" in found.told

    @pytest.mark.parametrize(
        ("given", "verdict"),
        [
            ({}, "ok"),
            ({"host": "0.0.0.0"}, "warning"),
            ({"host": "0.0.0.0", "trusted_proxies": "10.0.0.0/8"}, "ok"),
        ],
    )
    def test_none_is_right_where_something_else_ends_tls(
        self, given: dict[str, Any], verdict: str
    ) -> None:
        assert verdicts(check_certificate(settings(**given), ())) == [verdict]

    def test_each_of_two_is_looked_at(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        for folder in (first, second):
            folder.mkdir()
        given = self.issued(first, "acme.harvestapp.com")
        other = self.issued(second, "acme.harvestapp.com", days=20)
        beside = {"tls_second_certificate": other.tls_certificate, "tls_second_key": other.tls_key}
        both = given.model_copy(update=beside)

        (same,) = check_certificate(both, ())
        assert (same.verdict, "one of each type" in same.told) == ("wrong", True)
        assert "--tls-second-certificate, " in same.mend

        self.become_rsa(other)
        assert verdicts(check_certificate(both, ())) == ["ok", "warning"]

    def become_rsa(self, given: Settings) -> None:
        ends = NOW + timedelta(days=20, hours=1)
        issued = trustme.CA().issue_cert(
            "acme.harvestapp.com", key_type=trustme.KeyType.RSA, not_after=ends
        )
        assert given.tls_certificate is not None
        put_in_place(issued, given.tls_certificate.parent)

    @pytest.mark.parametrize(
        ("host", "is_covered"),
        [("a.b.org", True), ("b.org", False), ("x.a.b.org", False), ("c.org", True)],
    )
    def test_a_star_stands_for_one_label(self, host: str, is_covered: bool) -> None:
        """RFC 9525, section 6.3."""
        assert covers(["*.b.org", "c.org"], host) == is_covered


class TestTls:
    def given(self, folder: Path, key_type: trustme.KeyType, **more: Any) -> Settings:
        issued = trustme.CA(key_type=key_type).issue_cert("acme.harvestapp.com", key_type=key_type)
        certificate, key = put_in_place(issued, folder)
        return settings(tls_certificate=certificate, tls_key=key, **more)

    def test_what_is_current_is_tried(self, tmp_path: Path) -> None:
        (found,) = check_tls(self.given(tmp_path, trustme.KeyType.ECDSA))

        assert found.verdict == "ok"
        assert "a handshake was made by TLS 1.2" in found.told

    @pytest.mark.parametrize("minimum", ["1.1", "1.0"])
    def test_what_is_old_is_warned_of(self, tmp_path: Path, minimum: str) -> None:
        (found,) = check_tls(self.given(tmp_path, trustme.KeyType.RSA, tls_minimum=minimum))

        assert found.verdict == "warning"
        assert found.told.startswith(f"tls_minimum is {minimum}: ")
        assert "RSA" not in found.told

    def test_so_is_a_certificate_that_old_clients_do_not_take(self, tmp_path: Path) -> None:
        (found,) = check_tls(self.given(tmp_path, trustme.KeyType.ECDSA, tls_minimum="1.0"))

        assert "no certificate is RSA" in found.told

    def test_a_certificate_that_cannot_be_used_is_told_elsewhere(self, tmp_path: Path) -> None:
        given = self.given(tmp_path, trustme.KeyType.ECDSA)
        (tmp_path / "tls.key").unlink()

        assert [*check_tls(given)] == []

    def test_where_none_ends_here_nothing_is(self) -> None:
        assert [*check_tls(settings())] == []
