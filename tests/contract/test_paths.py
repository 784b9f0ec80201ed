"""Which paths and methods are served, and in which dialect (schemas/README.md, "Paths")."""

import pytest

from tests.support.legacy import Answer, LegacyClient
from tests.support.running import running_bridge

NO_IDS = ["0", "-1", "+1420", "1420.0", "abc", "9223372036854775808", "%D9%A1", "%2F", "1420%00"]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/invoice/%231420/messages", id="hash"),
        pytest.param("/invoice/%23%7B1420%7D/messages", id="hash and braces"),
        pytest.param("/invoice/1420/messages.xml", id="xml suffix"),
        pytest.param("/invoice/1420/messages/", id="trailing slash"),
        pytest.param("/invoice/01420/messages", id="leading zero"),
        pytest.param("/%69nvoice/1420/messages", id="percent-encoded letter"),
        pytest.param("/invoices/%231420/messages.xml/", id="all at once"),
    ],
)
async def test_tolerated_spellings_of_a_list(bridge: LegacyClient, path: str) -> None:
    answer = await bridge.get(path)

    assert answer.status == 200
    assert answer.texts("invoice-id") == ["1420", "1420"]


@pytest.mark.parametrize(
    "path",
    [
        "/invoice/1420/messages/409.xml",
        "/invoice/1420/messages/%23409",
        "/invoice/1420/messages/409/",
        "/invoices/1420/message/409.xml",
    ],
)
async def test_tolerated_spellings_of_a_message(bridge: LegacyClient, path: str) -> None:
    assert (await bridge.get(path)).texts("id") == ["409"]


@pytest.mark.parametrize("number", NO_IDS)
@pytest.mark.parametrize(
    "path", ["/invoice/{}/messages", "/invoices/{}/messages", "/invoice/1420/messages/{}"]
)
async def test_what_is_no_id_is_404(bridge: LegacyClient, path: str, number: str) -> None:
    answer = await bridge.get(path.format(number))

    assert answer.status == 404
    assert answer.errors


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/nowhere",
        "/invoice/1420/messages/409/more",
        "/invoices/1420/messages/409/more",
        "/invoice/1420/messages//",
        "/INVOICE/1420/messages",
    ],
)
async def test_any_other_path_is_404(bridge: LegacyClient, path: str) -> None:
    answer = await bridge.get(path)

    assert answer.status == 404
    assert answer.errors == ["Nothing is at this path."]


@pytest.mark.parametrize(
    "root",
    [
        "account",
        "clients",
        "contacts",
        "projects",
        "tasks",
        "people",
        "expenses",
        "expense_categories",
        "invoices",
        "invoice_item_categories",
        "daily",
        "reports",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_other_parts_of_v1_are_501_with_their_path(
    bridge: LegacyClient, method: str, root: str
) -> None:
    answer = await bridge.call(method, f"/{root}/5/entries.xml")

    assert answer.status == 501
    assert answer.errors == [f"The bridge does not translate /{root}/5/entries.xml."]


@pytest.mark.parametrize("root", ["invoices", "invoice"])
@pytest.mark.parametrize("below", ["", "/1420", "/1420/items", "//1420/messages"])
async def test_an_invoice_and_its_other_parts_are_501(
    bridge: LegacyClient, root: str, below: str
) -> None:
    assert (await bridge.get(f"/{root}{below}")).status == 501


@pytest.mark.parametrize("path", ["/client/1", "/project/1/entries", "/person/1", "/report.json"])
async def test_what_v1_had_is_501_in_the_singular_too(bridge: LegacyClient, path: str) -> None:
    assert (await bridge.get(path)).status == 501


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/people", id="not translated"),
        pytest.param("GET", "/client/1", id="not translated, in the singular"),
        pytest.param("PUT", "/invoice/1420/messages", id="another method"),
        pytest.param("GET", "/invoice/x/messages", id="no id"),
        pytest.param("GET", "/invoice/1420/messages.json", id="no XML"),
    ],
)
@pytest.mark.parametrize("authorization", [None, "Basic nonsense"])
async def test_below_v1s_roots_nobody_is_answered_who_does_not_say_who_it_is(
    bridge: LegacyClient, method: str, path: str, authorization: str | None
) -> None:
    answer = await bridge.call(method, path, authorization=authorization)
    served = await bridge.get("/invoice/1420/messages", authorization=authorization)

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Harvest"'
    assert told(answer) == told(served)


def told(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    """All that an answer tells, but for when it came and its id."""
    own = {"date", "x-request-id"}
    headers = {name: text for name, text in answer.headers.items() if name.lower() not in own}
    return answer.status, answer.body, headers


@pytest.mark.parametrize("path", ["/", "/nowhere", "/api/invoices/1420/messages"])
async def test_elsewhere_nobody_is_asked_who_it_is(bridge: LegacyClient, path: str) -> None:
    assert (await bridge.get(path, authorization=None)).status == 404


@pytest.mark.parametrize(
    ("path", "methods", "allow"),
    [
        ("/invoice/1420/messages/409", ["PUT", "PATCH", "POST", "OPTIONS"], "DELETE, GET, HEAD"),
        ("/invoices/1420/message/409", ["PUT", "POST"], "DELETE, GET, HEAD"),
    ],
)
async def test_a_known_path_with_another_method_is_405(
    bridge: LegacyClient, path: str, methods: list[str], allow: str
) -> None:
    for method in methods:
        answer = await bridge.call(method, path)

        assert (answer.status, answer.headers["Allow"]) == (405, allow)
        assert answer.errors


@pytest.mark.parametrize(
    "path",
    ["/invoice/1420/messages", "/invoices/1420/message/409", "/invoice/1421/messages/1", "/people"],
)
async def test_head_answers_as_get_without_the_body(bridge: LegacyClient, path: str) -> None:
    by_get, by_head = await bridge.get(path), await bridge.call("HEAD", path)

    assert by_head.body == b""
    assert by_head.status == by_get.status
    for name in ("Content-Type", "Content-Length", "Deprecation", "Link"):
        assert by_head.headers[name] == by_get.headers[name]


@pytest.mark.parametrize(
    ("dialect", "root"), [("classic", "invoice-messages"), ("final", "invoice-message")]
)
async def test_a_setting_overrides_the_dialect_of_the_path(
    sandbox: str, dialect: str, root: str
) -> None:
    async with running_bridge(sandbox, dialect=dialect) as client:
        for path in ("/invoice/1420/messages", "/invoices/1420/messages"):
            assert (await client.get(path)).xml.tag == root


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("text/xml", 200),
        ("application/xml", 200),
        ("application/json, */*;q=0.1", 200),
        ("application/json", 406),
        ("application/json, application/xml;q=0", 406),
    ],
)
async def test_a_call_that_admits_no_xml_is_406(
    bridge: LegacyClient, accept: str | None, status: int
) -> None:
    answer = await bridge.get(
        "/invoice/1420/messages", headers={} if accept is None else {"Accept": accept}
    )

    assert answer.status == status
    assert status == 200 or answer.errors


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/invoice/1420/messages.json"),
        ("GET", "/invoices/1420/message/409.json/"),
        ("HEAD", "/invoices/1420/payments.json"),
        ("POST", "/invoice/1420/messages/mark_as_sent%2Ejson"),
        ("DELETE", "/invoice/1420/messages/409.json"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "application/xml"])
async def test_a_path_that_asks_for_json_is_406_and_does_nothing(
    bridge: LegacyClient, method: str, path: str, accept: str
) -> None:
    answer = await bridge.call(method, path, headers={"Accept": accept})

    assert answer.status == 406
    assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
    if method != "HEAD":
        assert answer.errors == ["Only XML is spoken here: call the path without .json."]
    assert (await bridge.get("/invoice/1420/messages")).texts("id") == ["403", "409"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere.json", 404),
        ("/invoice/x.json", 501),
        ("/people.json", 501),
        ("/invoices/1420.json", 501),
        ("/invoice/1420/messages.csv", 501),
        ("/invoice/x/messages.json", 404),
        ("/invoice/1420/messages.json.xml", 406),
    ],
)
async def test_a_suffix_makes_no_path_known(bridge: LegacyClient, path: str, status: int) -> None:
    assert (await bridge.get(path)).status == status


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GARBAGE\r\n\r\n", id="no request line"),
        pytest.param(b"GET /invoice/1420/messages HTTP/1.1\r\nA b\r\n\r\n", id="bad header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000, id="endless header"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two lengths",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, id="TLS"),
    ],
)
async def test_what_is_not_http_is_400_in_xml(bridge: LegacyClient, garbage: bytes) -> None:
    head, _, body = (await bridge.raw(garbage)).partition(b"\r\n\r\n")

    assert head.split(b"\r\n")[0].split(b" ")[1] == b"400"
    assert b"Content-Type: application/xml; charset=utf-8" in head
    assert body.startswith(b"<?xml")
    assert b"<errors><error>" in body


async def test_asterisk_form_is_404(bridge: LegacyClient) -> None:
    answer = await bridge.raw(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"<errors>" in answer


async def test_absolute_form_is_the_path_it_names(bridge: LegacyClient) -> None:
    answer = await bridge.raw(
        b"GET http://acme.harvestapp.com/invoice/999/messages?access_token=sandbox-token HTTP/1.1\r\n"
        b"Host: acme.harvestapp.com\r\nConnection: close\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"Harvest has nothing by this id." in answer


@pytest.mark.parametrize(
    ("path", "status"),
    [("//invoice/1420/messages", b"200"), ("///invoice/1420/messages", b"404"), ("//", b"404")],
)
async def test_a_base_url_that_ends_in_a_slash_is_tolerated(
    bridge: LegacyClient, path: str, status: bytes
) -> None:
    answer = await bridge.raw(
        f"GET {path}?access_token=sandbox-token HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    )

    assert answer.split(b" ")[1] == status
