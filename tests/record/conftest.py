"""What several tests of the record have in common."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from bridge.record.log.database import KEY_LENGTH, open_database, writing


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = open_database(database, b"k" * KEY_LENGTH)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with writing(engine) as connection:
        yield connection
