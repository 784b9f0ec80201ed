"""Content negotiation: whether a call's Accept header (RFC 9110, section 12.5.1) admits XML."""

import re

_XML = re.compile(r"\*/\*|(?:application|text)/(?:\*|xml)|[^/]+/(?:[^/]+\+)?xml")
_QUALITY = re.compile(r"q=(?P<value>[0-9.]+)")


def admits_xml(accept: str | None) -> bool:
    """Tell whether some range in `accept` covers XML with a quality above zero.

    No header, and one without a media range in it, admits everything.
    """
    if accept is None:
        return True
    ranges = [each.strip() for each in accept.lower().split(",")]
    readable = [each for each in ranges if "/" in each]
    return not readable or any(_is_xml(each) for each in readable)


def _is_xml(media_range: str) -> bool:
    media_type, *parameters = (part.strip() for part in media_range.split(";"))
    qualities = [found["value"] for each in parameters if (found := _QUALITY.fullmatch(each))]
    refused = any(value.strip("0.") == "" for value in qualities)
    return _XML.fullmatch(media_type) is not None and not refused
