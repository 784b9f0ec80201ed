"""The outcome as JUnit XML, which Jenkins and GitLab read.

What both ask for, and Ant's schema: one suite; a case a call; a failure is a difference, an error a
call that could not be compared, and what was skipped is one case a reason and call.
"""

import re
import socket
from collections.abc import Iterable, Mapping
from datetime import datetime

from lxml import etree

from bridge.comparing import Result
from bridge.verifying.outcome import Outcome
from bridge.verifying.reads import MEANINGS, Skipped

NAME = "harvest-bridge verify"

_NO_XML = re.compile(
    "[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]|[\\x7f-\\x9f]"
)
"""What XML 1.0 cannot hold, or should not (section 2.2)."""


class Report:
    """A report under way."""

    def __init__(self, began: datetime) -> None:
        """Begin it; `began` is in UTC."""
        self._began = began
        self._cases: list[etree._Element] = []
        self._seconds = 0.0

    def add(self, outcome: Outcome, told: Iterable[str]) -> None:
        """Add a call; `told` are the lines that say how it differs."""
        name = f"{outcome.read.method} {outcome.read.target}"
        case = self._case(name, outcome.read.call, outcome.seconds)
        if outcome.result is Result.DIFFERENT:
            lines = list(told)
            failure = etree.SubElement(case, "failure", type="different")
            failure.set("message", _fit(lines[0]) if lines else "different")
            failure.text = _fit("\n".join(lines))
        elif outcome.result is Result.INCOMPARABLE:
            error = etree.SubElement(case, "error", type="incomparable")
            error.set("message", _fit(outcome.reason))

    def _case(self, name: str, class_: str, seconds: float) -> etree._Element:
        case = etree.Element("testcase", name=_fit(name), classname=_fit(class_))
        case.set("time", f"{seconds:.3f}")
        self._cases.append(case)
        self._seconds += seconds
        return case

    def document(self, skipped: Mapping[tuple[Skipped, str], int]) -> bytes:
        """Return the report, with what was skipped."""
        for (reason, call), count in skipped.items():
            case = self._case(call or "other calls", "skipped", 0.0)
            etree.SubElement(case, "skipped", message=f"{count}: {MEANINGS[reason]}")
        suites = etree.Element("testsuites")
        suite = etree.SubElement(suites, "testsuite", name=NAME, package="harvest-bridge", id="0")
        suite.set("timestamp", self._began.strftime("%Y-%m-%dT%H:%M:%S"))
        suite.set("hostname", _fit(socket.gethostname()) or "localhost")
        suite.set("tests", str(len(self._cases)))
        for plural, tag in _COUNTED.items():
            suite.set(plural, str(sum(case.find(tag) is not None for case in self._cases)))
        suite.set("time", f"{self._seconds:.3f}")
        etree.SubElement(suite, "properties")
        suite.extend(self._cases)
        etree.SubElement(suite, "system-out")
        etree.SubElement(suite, "system-err")
        octets: bytes = etree.tostring(
            suites, xml_declaration=True, encoding="UTF-8", pretty_print=True
        )
        return octets


_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _fit(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
