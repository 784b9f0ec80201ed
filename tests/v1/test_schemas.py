"""The XSDs are as strict as schemas/README.md says: one broken rule each, and no more."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import pytest
from lxml import etree

from bridge.resources.account import RATE_LIMIT_STATUS, WHO_AM_I
from bridge.resources.invoice_messages import MESSAGE
from bridge.resources.invoice_payments import PAYMENT
from bridge.resources.table import Entity
from bridge.v1 import xsd
from bridge.v1.dialects import Dialect
from bridge.v1.wire import V1Request
from bridge.v1.xsd import schema, schema_directory

ALL = sorted(path.relative_to(schema_directory()) for path in schema_directory().rglob("*.xsd"))


ITEMS = {
    MESSAGE: b"""{"id": 1, "body": "b", "created_at": "2017-08-23T22:15:06Z",
        "send_me_a_copy": true, "send_reminder_on": "2017-09-01"}""",
    PAYMENT: b"""{"id": 1, "amount": 10.5, "notes": "b", "created_at": "2017-08-23T22:15:06Z",
        "payment_gateway": {"id": 3, "name": "Stripe"}}""",
    WHO_AM_I: b"""{"at": "2017-08-23T22:15:06Z", "user": {"id": 1, "timezone": "Berlin"},
        "company": {"name": "b", "is_active": true, "invoice_feature": true}}""",
    RATE_LIMIT_STATUS: b"""{"last_access_at": "2017-08-23T22:15:06Z", "count": 5}""",
}
LISTED = [MESSAGE, PAYMENT]


def item(dialect: Dialect, entity: Entity = MESSAGE) -> etree._Element:
    call = V1Request(path="", ids={"invoice_id": 7}, dialect=dialect)
    document = entity.write(ITEMS[entity], call)
    return etree.fromstring(document, etree.XMLParser(remove_blank_text=True))


def groups(dialect: Dialect, entity: Entity) -> Iterator[tuple[etree._Element, etree._Element]]:
    """Yield each element that holds others, in a document of its own, and that document."""
    for position, element in enumerate(item(dialect, entity).iter()):
        if len(element):
            root = item(dialect, entity)
            yield root, list(root.iter())[position]


def is_valid(dialect: Dialect, root: etree._Element, entity: Entity = MESSAGE) -> bool:
    return schema(f"{entity.schema}/{dialect}-item").validate(root)


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
@pytest.mark.parametrize("entity", ITEMS, ids=lambda entity: entity.schema)
class TestStructure:
    def test_the_document_they_are_made_for_is_valid(
        self, dialect: Dialect, entity: Entity
    ) -> None:
        assert is_valid(dialect, item(dialect, entity), entity)

    def test_order(self, dialect: Dialect, entity: Entity) -> None:
        for root, group in groups(dialect, entity):
            group.append(group[0])
            assert not is_valid(dialect, root, entity)

    def test_missing_element(self, dialect: Dialect, entity: Entity) -> None:
        for position in range(1, len(list(item(dialect, entity).iter()))):
            root = item(dialect, entity)
            element = list(root.iter())[position]
            above = element.getparent()
            assert above is not None
            above.remove(element)
            assert not is_valid(dialect, root, entity)

    def test_unknown_element(self, dialect: Dialect, entity: Entity) -> None:
        for root, group in groups(dialect, entity):
            etree.SubElement(group, "colour")
            assert not is_valid(dialect, root, entity)

    def test_text_between_elements(self, dialect: Dialect, entity: Entity) -> None:
        for root, group in groups(dialect, entity):
            group[0].tail = "x"
            assert not is_valid(dialect, root, entity)

    def test_namespace(self, dialect: Dialect, entity: Entity) -> None:
        root = item(dialect, entity)
        root.tag = f"{{urn:x}}{entity.element}"
        assert not is_valid(dialect, root, entity)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("entity", LISTED, ids=lambda entity: entity.element)
def test_a_list_has_its_type_and_no_other_item(dialect: Dialect, entity: Entity) -> None:
    judge = schema(f"{entity.schema}/{dialect}-list")
    declared = etree.parse(schema_directory() / entity.schema / f"{dialect}-list.xsd")
    found = declared.find("{*}element")
    assert found is not None
    root = etree.Element(str(found.get("name")), {"type": "array"})

    assert judge.validate(root)
    root.extend([item(dialect, entity), item(dialect, entity)])
    assert judge.validate(root)
    etree.SubElement(root, "colour")
    assert not judge.validate(root)
    del root[-1], root.attrib["type"]
    assert not judge.validate(root)


@pytest.mark.parametrize("dialect", Dialect)
class TestElements:
    @pytest.mark.parametrize(
        ("entity", "element", "attribute", "value"),
        [
            (MESSAGE, "id", "type", None),
            (MESSAGE, "id", "type", "string"),
            (MESSAGE, "id", "nil", "true"),
            (MESSAGE, "invoice-id", "nil", "true"),
            (MESSAGE, "created-at", "type", "time"),
            (MESSAGE, "created-at", "type", None),
            (MESSAGE, "send-me-a-copy", "type", None),
            (MESSAGE, "send-me-a-copy", "nil", "false"),
            (MESSAGE, "send-me-a-copy", "nil", "true"),
            (MESSAGE, "body", "type", "string"),
            (MESSAGE, "body", "nil", "1"),
            (MESSAGE, "body", "lang", "en"),
            (PAYMENT, "id", "nil", "true"),
            (PAYMENT, "amount", "type", None),
            (PAYMENT, "amount", "type", "float"),
            (PAYMENT, "amount", "nil", "false"),
            (PAYMENT, "paid-at", "type", "date"),
            (PAYMENT, "notes", "type", "string"),
            (WHO_AM_I, "company", "type", "array"),
            (WHO_AM_I, "user/id", "nil", "true"),
            (WHO_AM_I, "user/timezone-utc-offset", "type", None),
            (WHO_AM_I, "company/modules/invoices", "type", None),
            (RATE_LIMIT_STATUS, "count", "type", None),
            (RATE_LIMIT_STATUS, "count", "type", "decimal"),
            (RATE_LIMIT_STATUS, "last-access-at", "type", "date"),
        ],
    )
    def test_attributes(
        self, dialect: Dialect, entity: Entity, element: str, attribute: str, value: str | None
    ) -> None:
        root = item(dialect, entity)
        found = root.find(element)
        assert found is not None
        if value is None:
            del found.attrib[attribute]
        else:
            found.set(attribute, value)
        assert not is_valid(dialect, root, entity)

    @pytest.mark.parametrize(
        ("entity", "element", "text"),
        [
            (MESSAGE, "id", "0"),
            (MESSAGE, "id", "-1"),
            (MESSAGE, "id", "01"),
            (MESSAGE, "id", "9223372036854775808"),
            (MESSAGE, "id", ""),
            (MESSAGE, "created-at", "2017-08-23T22:15:06"),
            (MESSAGE, "created-at", "2017-08-23T22:15:06.5Z"),
            (MESSAGE, "created-at", "2017-08-23T22:15:06+00:00"),
            (MESSAGE, "created-at", "2017-02-30T22:15:06Z"),
            (MESSAGE, "send-me-a-copy", "1"),
            (MESSAGE, "send-me-a-copy", "TRUE"),
            (MESSAGE, "send-me-a-copy", " true"),
            (MESSAGE, "send-me-a-copy", ""),
            (PAYMENT, "amount", "10"),
            (PAYMENT, "amount", "10."),
            (PAYMENT, "amount", ".5"),
            (PAYMENT, "amount", "+1.0"),
            (PAYMENT, "amount", "01.0"),
            (PAYMENT, "amount", "1e3"),
            (PAYMENT, "amount", "1,000.0"),
            (PAYMENT, "amount", " 1.0"),
            (PAYMENT, "amount", "NaN"),
            (RATE_LIMIT_STATUS, "count", "01"),
            (RATE_LIMIT_STATUS, "count", "+1"),
            (RATE_LIMIT_STATUS, "count", "-0"),
            (RATE_LIMIT_STATUS, "count", "1.0"),
            (RATE_LIMIT_STATUS, "count", " 1"),
        ],
    )
    def test_values(self, dialect: Dialect, entity: Entity, element: str, text: str) -> None:
        root = item(dialect, entity)
        found = root.find(element)
        assert found is not None
        found.text = text
        assert not is_valid(dialect, root, entity)

    @pytest.mark.parametrize("text", ["0.0", "-0.5", "10700.0", "123456789012345678901234.567"])
    def test_amounts(self, dialect: Dialect, text: str) -> None:
        root = item(dialect, PAYMENT)
        root[0].text = text
        assert is_valid(dialect, root, PAYMENT)


@pytest.mark.parametrize("text", ["0", "-1", "03", "x"])
def test_a_gateways_id_may_be_null_but_is_an_id(text: str) -> None:
    root = item(Dialect.FINAL, PAYMENT)
    root[-1].text = text
    assert not is_valid(Dialect.FINAL, root, PAYMENT)

    root[-1].text = None
    root[-1].set("nil", "true")
    assert is_valid(Dialect.FINAL, root, PAYMENT)


@pytest.mark.parametrize("entity", [*LISTED, RATE_LIMIT_STATUS], ids=lambda each: each.schema)
def test_the_dialects_are_not_each_others(entity: Entity) -> None:
    assert not is_valid(Dialect.FINAL, item(Dialect.CLASSIC, entity), entity)
    assert not is_valid(Dialect.CLASSIC, item(Dialect.FINAL, entity), entity)


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ("<errors><error>a</error><message>a</message></errors>", True),
        ("<errors><error>a</error><error>b</error><message>a b</message></errors>", True),
        ("<errors/>", False),
        ("<errors><message>a</message></errors>", False),
        ("<errors><error>a</error></errors>", False),
        ("<errors><error>a</error><message/></errors>", False),
        ("<errors><message>a</message><error>a</error></errors>", False),
        ("<errors><error/><message>a</message></errors>", False),
        ('<errors type="array"><error>a</error><message>a</message></errors>', False),
    ],
)
def test_errors(document: str, valid: bool) -> None:
    assert schema("errors").validate(etree.fromstring(document)) is valid
