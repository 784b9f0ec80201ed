"""The files that an operator puts in place: the book with its tokens, the admin token, TLS."""

import os
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from bridge.checking.findings import Finding, ok, warning, wrong
from bridge.identity.book import BookError, Row, read_rows, read_token, wrong_credential
from bridge.server.admin.token import TokenKeeper, UnusableToken
from bridge.server.tls import UnusableCertificate, both_contexts, leaf, server_context, shows_rsa
from bridge.server.tls_versions import Accepted
from bridge.settings import Settings, where

LEFT = timedelta(days=21)
"""Of a certificate's time, what is little: tools renew one of 90 days when 30 are left."""

READ_THE_BOOK = "put it right: `harvest-bridge credentials list` reads it again"


def check_book(book: Path) -> Iterator[Finding]:
    """Read the book, and every token that it names."""
    try:
        rows = read_rows(book)
    except BookError as error:
        yield wrong("book", str(error), READ_THE_BOOK)
        return
    told = set()
    for position, row in enumerate(rows, 1):
        try:
            read_token(row.reference, os.environ)
        except BookError as error:
            if row.reference not in told:
                what = wrong_credential(book, position, f"token: {error}", row.subdomain, row.login)
                yield wrong("book", str(what), f"put the token where {row.reference} says it is")
            told.add(row.reference)
    if len({row.cost for row in rows}) > 1:
        yield warning(
            "book",
            f"{book}: its hashes differ in cost, so that the time of a refusal tells of logins",
            "give those passwords anew: `harvest-bridge credentials add --replace`",
        )
    if not rows:
        yield warning("book", f"{book}: it is empty", "add one: `harvest-bridge credentials add`")
    elif not told:
        accounts = len({row.account_id for row in rows})
        yield ok("book", f"{book}: credentials: {len(rows)}, accounts: {accounts}")


def check_admin_token(settings: Settings) -> Finding:
    """Read the admin side's token, and tell whether it is needed, and travels safely."""
    reference, name = settings.admin_bearer_token, "admin token"
    if reference is None and settings.admin_is_on_loopback:
        return ok(name, "none: on the loopback, everybody of this machine is let in")
    if reference is None:
        told = "none: off the loopback, all but /healthz and /readyz is refused without"
        return warning(name, told, f"set one {where('admin_bearer_token')}")
    try:
        TokenKeeper(reference)
    except UnusableToken as error:
        return wrong(name, str(error), f"put one there {where('admin_bearer_token')}")
    if not settings.admin_is_on_loopback and settings.tls_certificate is None:
        told = "it travels in the clear, from trusted_proxies: others are refused"
        return warning(name, told, f"serve TLS {where('tls_certificate', 'tls_key')}")
    return ok(name, f"{reference}: can be read")


def check_certificate(
    settings: Settings, rows: Collection[Row], now: datetime | None = None
) -> Iterator[Finding]:
    """Look at certificates and keys: whether they fit, their order, their days, and their names."""
    name, pairs = "certificate", settings.tls_pairs
    if not pairs:
        if not settings.is_on_loopback and not settings.trusted_proxies:
            told = "none: secrets travel in the clear, unless a front that is not trusted ends TLS"
            mend = f"serve TLS, or name the front {where('tls_certificate', 'trusted_proxies')}"
            yield warning(name, told, mend)
        else:
            yield ok(name, "none: what ends TLS is in front, or on this machine")
        return
    try:
        accepted = Accepted(settings.tls_minimum, settings.tls_ciphers)
        both_contexts(pairs, accepted, serves_admins=not settings.admin_is_on_loopback)
    except UnusableCertificate as error:
        names = ("tls_certificate", "tls_key", "tls_second_certificate", "tls_second_key")
        named = [each for each in names if f"{getattr(settings, each)}: " in str(error)]
        yield wrong(name, str(error), f"put it right {where(*named)}")
        return
    for certificate, _ in pairs:
        try:
            chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        except (OSError, ValueError):
            told = f"{certificate}: only clients can say whether it is good"
            yield warning(name, told, "try one")
            continue
        dated = _check_dates(certificate, chain, now or datetime.now(UTC))
        problems = [*_check_order(certificate, chain), *_check_names(settings, rows, chain[0])]
        yield from ([dated] if dated.mend or not problems else [])
        yield from problems


def check_tls(settings: Settings) -> Iterator[Finding]:
    """Make a handshake by the oldest version of TLS; what certificates lack is told elsewhere."""
    accepted, pairs = Accepted(settings.tls_minimum, settings.tls_ciphers), settings.tls_pairs
    if not pairs:
        return
    try:
        context = server_context(pairs, accepted)
        shown = [leaf(certificate) for certificate, _ in pairs]
    except UnusableCertificate:
        return
    if odd := accepted.warning(context, shows_rsa=shows_rsa(shown)):
        yield warning("tls", odd, "docs/old-tls.md says which clients need what")
    else:
        yield ok("tls", "a handshake was made by TLS 1.2, the oldest that is spoken")


def _check_dates(path: Path, chain: list[x509.Certificate], now: datetime) -> Finding:
    ends = min(each.not_valid_after_utc for each in chain)
    begins = max(each.not_valid_before_utc for each in chain)
    renew = "renew it: a running bridge takes the new files some ten seconds later"
    if now > ends:
        return wrong("certificate", f"{path}: expired on {ends:%Y-%m-%d}", renew)
    if now < begins:
        told = f"{path}: not valid before {begins:%Y-%m-%d}"
        return wrong("certificate", told, "see to this machine's clock, or wait")
    told = f"{path}: days left: {(ends - now).days}, certificates in its chain: {len(chain)}"
    return warning("certificate", told, renew) if ends - now < LEFT else ok("certificate", told)


def _check_order(path: Path, chain: list[x509.Certificate]) -> Iterator[Finding]:
    """Each certificate has to be followed by its issuer's (RFC 5246, section 7.4.2)."""
    for position, (one, issuer) in enumerate(pairwise(chain), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except (InvalidSignature, TypeError, ValueError):
            told = f"{path}: certificate {position + 1} is not of who issued certificate {position}"
            yield warning("certificate", told, "order it: the server's first, then each issuer's")


def _check_names(
    settings: Settings, rows: Iterable[Row], certificate: x509.Certificate
) -> Iterator[Finding]:
    """Clients call `{subdomain}.{domain}`: of the book's, that has to be in the certificate.

    Which name clients call whose host name has no subdomain is not known, and not judged.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [each.lower() for each in extension.value.get_values_for_type(x509.DNSName)]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    mend = "have a certificate issued that names them, or that of `*.` the domain"
    missing = sorted(
        {row.subdomain for row in rows}
        - {settings.subdomain}
        - {
            row.subdomain
            for row in rows
            if any(covers(names, f"{row.subdomain}.{domain}") for domain in settings.domains)
        }
    )
    if missing:
        of = f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}"
        told = f"none of its names is that of the book's subdomain: {of}"
        yield warning("certificate", told, mend)
    elif settings.subdomain is None and not any(
        each.endswith(f".{domain}") for each in names for domain in settings.domains
    ):
        told = f"none of its names is below one of the domains: {', '.join(settings.domains)}"
        yield warning("certificate", told, mend)


def covers(names: Iterable[str], host: str) -> bool:
    """Tell whether one of a certificate's names is that of a host (RFC 9525, section 6.3)."""
    return not {host, f"*.{host.partition('.')[2]}"}.isdisjoint(names)
