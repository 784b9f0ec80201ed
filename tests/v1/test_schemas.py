"""The XSDs are as strict as schemas/README.md says: one broken rule each, and no more."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import pytest
from lxml import etree

from bridge.resources.invoice_messages import MESSAGE
from bridge.v1 import xsd
from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes
from bridge.v1.wire import V1Request
from bridge.v1.xsd import schema, schema_directory

ALL = sorted(path.relative_to(schema_directory()) for path in schema_directory().rglob("*.xsd"))


def item(dialect: Dialect) -> etree._Element:
    call = V1Request(path="", ids={"invoice_id": 7}, dialect=dialect)
    data = (
        b'{"id": 1, "body": "b", "created_at": "2017-08-23T22:15:06Z", "send_me_a_copy": true,'
        b' "send_reminder_on": "2017-09-01"}'
    )
    return etree.fromstring(b"".join(MESSAGE.item(data, call).parts(Notes())))


def is_valid(dialect: Dialect, root: etree._Element) -> bool:
    return schema(f"invoice-messages/{dialect}-item").validate(root)


@pytest.mark.parametrize("path", ALL, ids=str)
def test_every_schema_stands_on_its_own(path: str) -> None:
    etree.XMLSchema(etree.parse(schema_directory() / path))


class TestCompiling:
    def test_all_of_them_are_ready_before_the_first_call(self) -> None:
        xsd._compiled.cache_clear()

        xsd.compile_all()

        entries = [path for path in ALL if not path.name.endswith("types.xsd")]
        assert xsd._compiled.cache_info().currsize == len(entries)

    def test_one_is_compiled_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """libxml2's own types, which the first schema makes, do not bear two threads."""
        xsd._compiled.cache_clear()
        at_once, most = 0, 0
        begin = Barrier(4)

        def slow(_tree: object) -> str:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            for _ in range(1000):
                sleep(0)  # any other thread's turn
            at_once -= 1
            return "a schema"

        def compile_one(name: str) -> None:
            begin.wait()
            schema(name)

        monkeypatch.setattr(etree, "XMLSchema", slow)
        with ThreadPoolExecutor(4) as threads:
            names = [f"invoice-messages/{each}" for each in ("classic-list", "final-list")]
            list(threads.map(compile_one, [*names, "errors", "invoice-messages/request"]))
        xsd._compiled.cache_clear()

        assert most == 1


@pytest.mark.parametrize("dialect", Dialect)
class TestStrictness:
    def test_the_document_they_are_made_for_is_valid(self, dialect: Dialect) -> None:
        assert is_valid(dialect, item(dialect))

    def test_order(self, dialect: Dialect) -> None:
        root = item(dialect)
        root.append(root[0])
        assert not is_valid(dialect, root)

    def test_missing_element(self, dialect: Dialect) -> None:
        for position in range(len(item(dialect))):
            root = item(dialect)
            del root[position]
            assert not is_valid(dialect, root)

    def test_unknown_element(self, dialect: Dialect) -> None:
        root = item(dialect)
        etree.SubElement(root, "colour")
        assert not is_valid(dialect, root)

    def test_text_between_elements(self, dialect: Dialect) -> None:
        root = item(dialect)
        root[0].tail = "x"
        assert not is_valid(dialect, root)

    def test_namespace(self, dialect: Dialect) -> None:
        root = item(dialect)
        root.tag = "{urn:x}invoice-message"
        assert not is_valid(dialect, root)

    @pytest.mark.parametrize(
        ("element", "attribute", "value"),
        [
            ("id", "type", None),
            ("id", "type", "string"),
            ("id", "nil", "true"),
            ("invoice-id", "nil", "true"),
            ("created-at", "type", "time"),
            ("created-at", "type", None),
            ("send-me-a-copy", "type", None),
            ("send-me-a-copy", "nil", "false"),
            ("body", "type", "string"),
            ("body", "nil", "1"),
            ("body", "lang", "en"),
        ],
    )
    def test_attributes(
        self, dialect: Dialect, element: str, attribute: str, value: str | None
    ) -> None:
        root = item(dialect)
        found = root.find(element)
        assert found is not None
        if value is None:
            del found.attrib[attribute]
        else:
            found.set(attribute, value)
        assert not is_valid(dialect, root)

    @pytest.mark.parametrize(
        ("element", "text"),
        [
            ("id", "0"),
            ("id", "-1"),
            ("id", "01"),
            ("id", "9223372036854775808"),
            ("id", ""),
            ("created-at", "2017-08-23T22:15:06"),
            ("created-at", "2017-08-23T22:15:06.5Z"),
            ("created-at", "2017-08-23T22:15:06+00:00"),
            ("created-at", "2017-02-30T22:15:06Z"),
            ("send-me-a-copy", "1"),
            ("send-me-a-copy", "TRUE"),
            ("send-me-a-copy", " true"),
        ],
    )
    def test_values(self, dialect: Dialect, element: str, text: str) -> None:
        root = item(dialect)
        found = root.find(element)
        assert found is not None
        found.text = text
        assert not is_valid(dialect, root)


def test_the_dialects_are_not_each_others() -> None:
    assert not is_valid(Dialect.FINAL, item(Dialect.CLASSIC))
    assert not is_valid(Dialect.CLASSIC, item(Dialect.FINAL))


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ("<errors><error>a</error></errors>", True),
        ("<errors><error>a</error><error>b</error></errors>", True),
        ("<errors/>", False),
        ("<errors><error/></errors>", False),
        ('<errors type="array"><error>a</error></errors>', False),
    ],
)
def test_errors(document: str, valid: bool) -> None:
    assert schema("errors").validate(etree.fromstring(document)) is valid
