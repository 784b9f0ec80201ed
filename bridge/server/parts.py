"""What the legacy side is put together from; `bridge.server.service` makes it, and closes it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.identity.book import Book
from bridge.record.journal import Journal
from bridge.server.leaving import Departure
from bridge.settings import Settings
from bridge.upstream.gateway import Gateway

NO_BOOK = Book(())


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that outlive a call."""

    settings: Settings
    gateway: Gateway
    journal: Journal
    book: Callable[[], Book] = lambda: NO_BOOK
    """Answers the credential book in force."""
    departure: Departure = field(default_factory=Departure)
