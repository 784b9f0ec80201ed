"""All checks, one after the other."""

import asyncio
from collections.abc import Iterator

from bridge.checking.files import check_admin_token, check_book, check_certificate
from bridge.checking.findings import Finding, ok, warning
from bridge.checking.machine import check_open_files, check_ports
from bridge.checking.origin import check_origin
from bridge.checking.stores import check_database, check_journal
from bridge.checking.upstream import check_upstream
from bridge.identity.book import BookError, Row, read_rows
from bridge.settings import Mode, Settings


def check_everything(settings: Settings, *, offline: bool) -> Iterator[Finding]:
    """Look at all that a bridge with these settings needs; v2 is asked unless `offline`."""
    told = {"upstream": settings.upstream_warning(), "legacy_origin": settings.origin_warning()}
    for setting, said in told.items():
        if said is not None:
            yield warning("settings", said, f"set {setting} to an https URL")
    if not any(told.values()):
        yield ok("settings", "make sense")
    if settings.book is not None:
        yield from check_book(settings.book)
    rows = _rows(settings)
    yield check_admin_token(settings)
    yield from check_certificate(settings, rows)
    if not offline:
        if settings.mode is not Mode.OBSERVE:  # in which v2 is not asked
            yield from asyncio.run(check_upstream(settings, rows))
        yield from asyncio.run(check_origin(settings, rows))
    yield from check_database(settings)
    yield from check_journal(settings)
    yield from check_ports(settings)
    yield check_open_files(settings.connections)


def _rows(settings: Settings) -> tuple[Row, ...]:
    try:
        return () if settings.book is None else read_rows(settings.book)
    except BookError:  # which has been told
        return ()
