"""What reading a request leaves in memory: libxml2 keeps names for as long as a thread lives."""

import re
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.resources.invoice_messages import MESSAGE_FORM
from bridge.v1.errors import InvalidRequest
from bridge.v1.notes import Notes
from tests.support.reading import read_request

NAMES = 40_000
SCRIPT = """
from pathlib import Path
from bridge.resources.invoice_messages import MESSAGE_FORM
from bridge.v1.errors import InvalidRequest
from bridge.v1.notes import Notes
from tests.support.reading import read_request

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

def read(number):
    names = (f"n{{number}}x{{each}}" for each in range({names}))
    markup = "".join({markup} for name in names)
    try:
        read_request(f"<invoice-message>{{markup}}</invoice-message>".encode(), None,
                     MESSAGE_FORM, Notes())
    except InvalidRequest:
        pass

for number in range(5):
    read(number)
before = resident()
for number in range(5, 45):
    read(number)
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize(
    "markup",
    [
        "f'<{name}/>'",
        "f'<a {name}=\"\"/>'",
        "f'<p:{name}/>'",
        # What libxml2 keeps besides names, below the names that v1 had.
        "f'<body xmlns=\"{name}\"/>'",
        "f'&{name};'",
        "'<body/>' + f'{hash(name) % 2**48:048b}'.translate({48: ' ', 49: chr(9)})",
    ],
)
def test_names_that_v1_never_had_are_forgotten(markup: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(names=NAMES, markup=markup)],
        capture_output=True,
        check=True,
        text=True,
    )

    grown = int(done.stdout) * resource.getpagesize()
    assert grown < 400 * NAMES  # bytes: of 40 times as many names, each of some 40 in libxml2


PIECES = st.one_of(
    st.sampled_from(
        [
            "<body>",
            "</body>",
            "<invoice-message>",
            "</invoice_message>",
            "<send_me_a_copy type='boolean' nil=\"true\"/>",
            "<body xmlns:xsi='x' xsi:nil='1'>",
            "<body xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:nil='1'/>",
            "<body xmlns=''/>",
            "<body xmlns='foreign'/>",
            "&foreign;",
            "&amp;&#32;&#x20;",
            "<body type='&foreign;'/>",
            "\n" + " " * 20,
            " \t" * 10,
            "<foreign/>",
            "<body foreign=''/>",
            "<bodyx/>",
            "<!-- <x/> -->",
            "<![CDATA[<x/>]]>",
            "<?xml version='1.0'?>",
            "<?pi x?>",
            "&lt;x/>",
            "text",
            "<body\n/>",
            "<body a>",
            '<body type="<x/>"/>',
        ]
    ),
    st.text("<>/='\"abx ", max_size=6),
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_what_passes_for_plain_is_nothing_new_to_libxml2(text: str) -> None:
    parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True)
    if MESSAGE_FORM.plain.fullmatch(text):
        root = etree.fromstring(f"<body>{text}</body>".encode(), parser)
        names = {str(each.tag) for each in root.iter(etree.Element)}
        attributes = {str(key) for each in root.iter(etree.Element) for key in each.attrib}
        assert {name.replace("_", "-") for name in names} <= {
            "body",
            "invoice-message",
            "send-me-a-copy",
        }
        assert {re.sub("{.*}", "", name) for name in attributes} <= {"type", "nil", "xsi:nil"}
        assert {uri for each in root.iter(etree.Element) for uri in each.nsmap.values()} <= {
            "http://www.w3.org/2001/XMLSchema-instance",
            "http://www.w3.org/2001/XMLSchema",
            "",
        }
        assert "foreign" not in text
        assert not re.search(r">(?!\n(?: *|\t*)<)[ \t\n]{16,59}<", text)


def test_more_attributes_than_any_form_has_are_refused() -> None:
    attributes = " ".join(f'a{number}=""' for number in range(201))

    for body in (
        f"<invoice-message {attributes}/>",
        f"<invoice-message><body {attributes}/></invoice-message>",
    ):
        with pytest.raises(InvalidRequest, match=r"more than 200 attributes\.$"):
            read_request(body.encode(), None, MESSAGE_FORM, Notes())
