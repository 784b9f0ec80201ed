"""Whether an address is the bridge's own."""

import pytest

from bridge.origin.loops import Own, loop_of
from bridge.origin.place import Place


@pytest.mark.parametrize(
    ("host", "address", "is_own"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.2", True),
        ("::", "::ffff:127.0.0.1", True),
        ("0.0.0.0", "192.0.2.1", False),
        ("127.0.0.1", "what is none", False),
    ],
)
def test_it_is_by_where_the_bridge_listens(host: str, address: str, is_own: bool) -> None:
    assert Own(host, 8080).is_at(address, 8080) is is_own
    assert not Own(host, 8080).is_at(address, 443)


async def test_a_name_is_looked_up() -> None:
    said = await loop_of(Place("http", "localhost", 8080), Own("127.0.0.1", 8080))

    assert said is not None
    assert said.startswith("localhost is 127.0.0.1, port 8080: the bridge itself")


async def test_a_name_that_nobody_knows_is_no_loop() -> None:
    assert await loop_of(Place("http", "v1.invalid", 8080), Own("0.0.0.0", 8080)) is None
