"""The translation of a list on its own: v2's JSON in, the XML document out, no socket between.

`translate_once` is the one function of this benchmark that knows how the bridge does that.
"""

from bridge.resources.invoice_messages import list_messages
from bridge.v1.dialects import Dialect
from bridge.v1.reuse import Reuse
from bridge.v1.wire import V1Request
from bridge.v2.wire import V2Request, V2Response

_kept = Reuse(64 * 1024 * 1024)


def translate_once(data: bytes, dialect: Dialect, invoice_id: int) -> bytes:
    """Return the document that a legacy client gets for a list of v2.

    It goes the way of a real call from v2's answer on: the flow reads `data`, and the document is
    built, validated and joined. What the bridge keeps from one call to the next may be used: the
    same `data` for the same `invoice_id` is an unchanged list that is polled again, and an
    `invoice_id` that was never asked for is a cold one.

    Args:
        data: one page of v2, without a next one.
        dialect: the one to answer in.
        invoice_id: the invoice that was asked for.
    """
    call = V1Request(path="", ids={"invoice_id": invoice_id}, dialect=dialect, reuse=_kept)
    flow = list_messages(call)
    request = next(flow)
    assert isinstance(request, V2Request)
    try:
        flow.send(V2Response(200, data, f"http://v2.example/v2{request.path}?{request.query}"))
    except StopIteration as end:
        return b"".join(end.value.body)
    raise AssertionError("the flow asks for more than one page")
