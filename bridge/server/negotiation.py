"""What fields of a head say that are lists, and which formats Accept admits (RFC 9110)."""

import re
from dataclasses import replace

from multidict import MultiMapping

from bridge.resources.routes import Match
from bridge.v1.errors import NotAcceptable

_XML = re.compile(r"\*/\*|(?:application|text)/(?:\*|xml)|[^/]+/(?:[^/]+\+)?xml")
_JSON = re.compile(r"\*/\*|application/\*|[^/]+/(?:[^/]+\+)?json")
_QUALITY = re.compile(r"q=(?P<value>[0-9.]+)")


def list_field(headers: MultiMapping[str], name: str) -> str | None:
    """Return a field whose value is a list: all of its lines are one (RFC 9110, section 5.2)."""
    lines = headers.getall(name, ())
    return ", ".join(lines) if lines else None


def expects_continue(headers: MultiMapping[str]) -> bool:
    """Tell whether the body is held back until it is asked for (RFC 9110, section 10.1.1)."""
    expected = list_field(headers, "Expect")
    return expected is not None and "100-continue" in map(str.strip, expected.lower().split(","))


def admits_xml(accept: str | None) -> bool:
    """Tell whether some range in `accept` covers XML with a quality above zero.

    No header, and one without a media range in it, admits everything.
    """
    return _admits(accept, _XML)


def admits_json(accept: str | None) -> bool:
    """Tell the same of JSON."""
    return _admits(accept, _JSON)


def in_format(match: Match, accept: str | None) -> Match:
    """Return what serves a call in the format that its path asks for, or one `accept` admits.

    Raises:
        NotAcceptable: nothing does.
    """
    if not match.wants_json and admits_xml(accept):
        return match
    if match.call.json_flow is None or not (match.wants_json or admits_json(accept)):
        how = "call the path without .json" if match.wants_json else "send Accept: application/xml"
        raise NotAcceptable(f"Only XML is spoken here: {how}.")
    return match._replace(call=replace(match.call, flow=match.call.json_flow))


def _admits(accept: str | None, ranges: re.Pattern[str]) -> bool:
    if accept is None:
        return True
    given = [each.strip() for each in accept.lower().split(",")]
    readable = [each for each in given if "/" in each]
    return not readable or any(_covers(each, ranges) for each in readable)


def _covers(media_range: str, ranges: re.Pattern[str]) -> bool:
    media_type, *parameters = (part.strip() for part in media_range.split(";"))
    qualities = [found["value"] for each in parameters if (found := _QUALITY.fullmatch(each))]
    refused = any(value.strip("0.") == "" for value in qualities)
    return ranges.fullmatch(media_type) is not None and not refused
