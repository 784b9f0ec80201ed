"""A translation log with comparisons in it: of one integration, some of whose answers differ."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from bridge.record.log.comparisons import ingest_comparisons
from bridge.record.log.database import load_key, open_database, writing
from bridge.record.log.events import CallEvent, Compared, ComparisonEvent
from bridge.record.log.ingest import ingest
from tests.support.recorded_days import recorded_days

ROUTE = "/invoice/{invoice_id}/messages/{message_id}"
BODY = "/invoice-message/body"


def compared_log(
    database: str, *, equal: int = 4, different: int = 3, place: str = BODY
) -> Sequence[CallEvent]:
    """Fill a log with calls that were compared; return them, those that differ first."""
    (one,) = recorded_days(calls=1, integrations=1, days=1, until=datetime.now(UTC))
    calls = [
        msgspec.structs.replace(
            one, id=one.id + at, request_id=f"r-{at}", method="GET", route=ROUTE, path=None
        )
        for at in range(equal + different)
    ]
    told = [
        Compared(
            ComparisonEvent(
                id=each.id,
                request_id=each.request_id,
                integration=each.integration,
                route=ROUTE,
                result="different" if at < different else "equal",
                differences={place: 1} if at < different else {},
            )
        )
        for at, each in enumerate(calls)
    ]
    engine = open_database(database, load_key(database, None))
    with writing(engine) as connection:
        ingest(connection, calls)
        ingest_comparisons(connection, told)
    engine.dispose()
    return calls
