"""What can be wrong with a request, as codes that a log counts by (docs/log.md, "Problems")."""

from enum import StrEnum


class Problem(StrEnum):
    """Why a request is a 400."""

    HTTP_VERSION = "http-version"
    TRANSFER_CODING = "transfer-coding"
    BODY_BROKEN_OFF = "body-broken-off"
    BAD_ENCODING = "bad-encoding"
    EMPTY_BODY = "empty-body"
    MALFORMED_XML = "malformed-xml"
    DTD = "dtd"
    TOO_MUCH = "too-much"
    WRONG_ROOT = "wrong-root"
    GIVEN_TWICE = "given-twice"
    NOT_TEXT = "not-text"
    MISSING_ELEMENT = "missing-element"
    BAD_BOOLEAN = "bad-boolean"
    BAD_NUMBER = "bad-number"
    BAD_TIME = "bad-time"
    BAD_RECIPIENT = "bad-recipient"
    BAD_VALUE = "bad-value"
    REFUSED_BY_V2 = "refused-by-v2"
