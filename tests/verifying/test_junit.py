"""The report in JUnit XML: what Ant's schema and Jenkins' ask of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from bridge.comparing import Answer, Comparison, Reason, Result, compare
from bridge.side import Side
from bridge.verifying.har import Recording
from bridge.verifying.junit import Report
from bridge.verifying.outcome import Outcome
from bridge.verifying.reads import Read, Skipped, plan
from tests.support.recordings import Call, record

# Both schemas have this much in common, and neither takes more.
SCHEMA = etree.XMLSchema(
    etree.fromstring("""
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:simpleType name="name"><xs:restriction base="xs:token"><xs:minLength value="1"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="seconds"><xs:restriction base="xs:decimal"><xs:pattern value="[0-9]+\\.[0-9]{3}"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="time"><xs:restriction base="xs:dateTime"><xs:pattern value="[^.Z]*"/></xs:restriction></xs:simpleType>
  <xs:complexType name="told"><xs:simpleContent><xs:extension base="xs:string">
    <xs:attribute name="message" type="xs:string"/><xs:attribute name="type" type="xs:string" use="required"/>
  </xs:extension></xs:simpleContent></xs:complexType>
  <xs:element name="testsuites"><xs:complexType><xs:sequence><xs:element name="testsuite"><xs:complexType>
    <xs:sequence>
      <xs:element name="properties"><xs:complexType/></xs:element>
      <xs:element name="testcase" minOccurs="0" maxOccurs="unbounded"><xs:complexType>
        <xs:choice minOccurs="0">
          <xs:element name="skipped"><xs:complexType><xs:attribute name="message" type="xs:string"/></xs:complexType></xs:element>
          <xs:element name="error" type="told"/><xs:element name="failure" type="told"/>
        </xs:choice>
        <xs:attribute name="name" type="name" use="required"/><xs:attribute name="classname" type="name" use="required"/>
        <xs:attribute name="time" type="seconds" use="required"/>
      </xs:complexType></xs:element>
      <xs:element name="system-out" type="xs:string"/><xs:element name="system-err" type="xs:string"/>
    </xs:sequence>
    <xs:attribute name="name" type="name" use="required"/><xs:attribute name="package" type="name" use="required"/>
    <xs:attribute name="id" type="xs:int" use="required"/><xs:attribute name="timestamp" type="time" use="required"/>
    <xs:attribute name="hostname" type="name" use="required"/><xs:attribute name="tests" type="xs:int" use="required"/>
    <xs:attribute name="failures" type="xs:int" use="required"/><xs:attribute name="errors" type="xs:int" use="required"/>
    <xs:attribute name="skipped" type="xs:int"/><xs:attribute name="time" type="seconds" use="required"/>
  </xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element>
</xs:schema>""")
)
BEGAN = datetime(2026, 11, 1, 10, 0, 0, 5, UTC)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    file = record(tmp_path / "v1.har", [Call("/invoices/1/payments?q=%00", "<a/>")])
    return plan([Recording(file)], drops_repeated=False).reads[0]


def suite(report: Report, skipped: Mapping[tuple[Skipped, str], int]) -> etree._Element:
    root = etree.fromstring(report.document(skipped))
    SCHEMA.assertValid(root)
    return root[0]


def test_each_call_is_a_case_and_the_sums_are_right(read: Read) -> None:
    different = compare(Answer(200, None, b"<a>1</a>"), Answer(200, None, b"<a>2</a>"))
    incomparable = Comparison(Result.INCOMPARABLE, reason=Reason.DTD, side=Side.V1)
    report = Report(BEGAN)
    report.add(Outcome(read, 0.25, Comparison(Result.EQUAL)), [])
    report.add(Outcome(read, 0.5, different), ["value /a", '    v1      "1"'])
    report.add(Outcome(read, 0.125, incomparable), [])
    report.add(Outcome(read, 0.125, failure="no answer"), [])
    told = suite(report, {(Skipped.WRITE, "POST /invoices/{…}/payments"): 12})

    assert [told.get(name) for name in ("tests", "failures", "errors", "skipped", "time")] == [
        "5", "1", "2", "1", "1.000",
    ]  # fmt: skip
    assert told.get("timestamp") == "2026-11-01T10:00:00"
    assert [case.get("classname") for case in told.iter("testcase")][::4] == [
        "GET /invoices/{…}/payments",
        "skipped",
    ]
    (failure,) = told.iter("failure")
    assert (failure.get("message"), failure.text) == ("value /a", 'value /a\n    v1      "1"')
    assert [each.get("message") for each in told.iter("error")] == [
        "v1's answer has a document type declaration",
        "no answer",
    ]
    (skipped,) = told.iter("skipped")
    assert skipped.get("message") == "12: it is a write, which is not made again"


def test_nothing_that_v1_has_said_makes_it_ill_formed(read: Read) -> None:
    different = compare(Answer(200, None, b"<a>1</a>"), Answer(200, None, b"<a>2</a>"))
    report = Report(BEGAN)
    report.add(Outcome(read, 0.0, different), ["\x1b[2J]]>\ud800￾\x00<&"])

    (failure,) = suite(report, {}).iter("failure")
    assert failure.text == "�[2J]]>���<&"


def test_a_report_without_calls_is_one(read: Read) -> None:
    assert suite(Report(BEGAN), {}).get("tests") == "0"
