"""Comparing two answers: by their statuses, and if both were served, by their documents."""

from concurrent.futures import ThreadPoolExecutor

from lxml import etree

from bridge.comparing.documents import Unreadable, is_json, read
from bridge.comparing.findings import Answer, Comparison, Kind, Reason, Result
from bridge.comparing.known import ERROR
from bridge.comparing.paths import NOTHING, Paths
from bridge.comparing.trees import At, Findings, Place, TooDeep, find
from bridge.side import Side


def compare(
    v1: Answer, bridge: Answer, ignored: Paths = NOTHING, *, wants_values: bool = False
) -> Comparison:
    """Compare what v1 and the bridge answer to the same call, as a v1 client would see it.

    Headers are not compared. Of documents, neither the order of attributes nor white space between
    elements counts; items of a list are told apart by their ids. It takes tens of milliseconds for
    2,000 messages, for the better part in C, in a thread that ends with it: libxml2 remembers
    every name that a thread has met.

    Args:
        v1: what v1 answered.
        bridge: what the bridge answered.
        ignored: the places that may differ.
        wants_values: whether differences tell values, or what shows of long ones how they differ.
    """
    with ThreadPoolExecutor(1, "comparing") as apart:
        return apart.submit(_compare, v1, bridge, ignored, Findings(wants_values)).result()


def _compare(v1: Answer, bridge: Answer, ignored: Paths, findings: Findings) -> Comparison:
    try:
        _find(v1, bridge, ignored, findings)
    except _Incomparable as incomparable:
        return Comparison(Result.INCOMPARABLE, reason=incomparable.reason, side=incomparable.side)
    return Comparison(
        Result.DIFFERENT if findings.counted else Result.EQUAL,
        tuple(findings.differences),
        dict(findings.counted),
        dict(findings.known),
    )


class _Incomparable(Exception):
    def __init__(self, reason: Reason, side: Side) -> None:
        super().__init__(reason, side)
        self.reason = reason
        self.side = side


def _find(v1: Answer, bridge: Answer, ignored: Paths, findings: Findings) -> None:
    at = At(Place((), ignored), "/")
    if v1.status != bridge.status:
        for side, one, other in ((Side.V1, v1, bridge), (Side.BRIDGE, bridge, v1)):
            if one.status // 100 in {3, 5} and one.status // 100 != other.status // 100:
                raise _Incomparable(Reason.STATUS, side)
        findings.note(Kind.STATUS, at, str(v1.status), str(bridge.status))
    if v1.status // 100 == bridge.status // 100 == 2:
        _compare_bodies(v1, bridge, at, findings)
    elif v1.status == bridge.status:
        _compare_refusals(v1, bridge, at, findings)


def _compare_bodies(v1: Answer, bridge: Answer, at: At, findings: Findings) -> None:
    if _is_blank(v1) or _is_blank(bridge):
        if not (_is_blank(v1) and _is_blank(bridge)):
            findings.note(Kind.FORMAT, at, _format(v1), _format(bridge))
        return
    if (v1.body, v1.content_type) == (bridge.body, bridge.content_type):
        return
    roots = _read(v1, Side.V1), _read(bridge, Side.BRIDGE)
    formats = _format(v1), _format(bridge)
    is_of_one_kind = is_json(v1) == is_json(bridge)
    # One that does not say what it is has turned out to be the same.
    if not is_of_one_kind or (all(formats) and formats[0] != formats[1]):
        findings.note(Kind.FORMAT, at, *formats)
    if is_of_one_kind:
        try:
            find(*roots, at.place, findings)
        except TooDeep:  # which the bridge never is of its own accord
            raise _Incomparable(Reason.TOO_MUCH, Side.V1) from None


def _read(answer: Answer, side: Side) -> etree._Element:
    try:
        return read(answer)
    except Unreadable as unreadable:
        raise _Incomparable(unreadable.reason, side) from None


def _is_blank(answer: Answer) -> bool:
    return not answer.body.strip()  # Rails wrote a blank where there was nothing to say


def _format(answer: Answer) -> str:
    """Return the media type of an answer's body, nothing where there is no body."""
    if _is_blank(answer):
        return ""
    return (answer.content_type or "").partition(";")[0].strip().lower()


def _compare_refusals(v1: Answer, bridge: Answer, at: At, findings: Findings) -> None:
    try:
        roots = read(v1), read(bridge)
    except Unreadable:
        roots = None
    if roots is not None and all(map(_is_ours, roots)):
        find(*roots, at.place, findings)
    elif v1.body.strip() != bridge.body.strip():
        findings.note(Kind.FORMAT, at, None, None, frozenset({ERROR}))


def _is_ours(root: etree._Element) -> bool:
    """Tell whether a document is an error of the bridge's, or just like it."""
    return root.tag == "errors" and [each.tag for each in root] == ["error", "message"]
