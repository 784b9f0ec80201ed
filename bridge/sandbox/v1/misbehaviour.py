"""The faults of the sandbox's v1 that v2 does not have, carried out on the connection."""

from http import HTTPStatus

from aiohttp import hdrs, web

from bridge.sandbox.calls import Severed
from bridge.sandbox.faults import Fault, Status
from bridge.sandbox.misbehaviour import (
    CARRY_OUT,
    PIECE_BYTES,
    CarryOut,
    Exchange,
    body_of,
    taken_over,
    written,
)
from bridge.sandbox.v1.faults import (
    V1_FAULTS,
    Framed,
    Planted,
    Redirect,
    V1Status,
)
from bridge.sandbox.v1.planting import Difference, Differences, plant

DIFFERENCES = web.AppKey("differences", Differences)


async def _redirect(fault: Redirect, exchange: Exchange) -> web.StreamResponse:
    if fault.applied:
        await exchange.serve()
    answer = exchange.error(fault.status)
    answer.headers[hdrs.LOCATION] = fault.location
    return answer


async def _framed(fault: Framed, exchange: Exchange) -> web.StreamResponse:
    right = await exchange.answer(applied=fault.applied)
    if exchange.request.method == hdrs.METH_HEAD or right.prepared:
        return right
    blanks = max(0, fault.bytes - len(body_of(right)))
    if fault.by == "close":
        return await _ended_by_close(right, blanks, exchange.request)
    answer = web.StreamResponse(status=right.status, headers=right.headers)
    if fault.by == "chunks":
        answer.headers.pop(hdrs.CONTENT_LENGTH, None)
        answer.enable_chunked_encoding()
    else:
        answer.content_length = len(body_of(right)) + blanks
    await answer.prepare(exchange.request)
    await answer.write(body_of(right))
    for sent in range(0, blanks, PIECE_BYTES):
        await answer.write(_BLANKS[: blanks - sent])
    await answer.write_eof()
    return answer


async def _ended_by_close(
    right: web.Response, blanks: int, request: web.Request
) -> web.StreamResponse:
    right.headers[hdrs.CONNECTION] = "close"
    head, body = written(right, request)
    lines = head.split(b"\r\n")
    head = b"\r\n".join(line for line in lines if not line.lower().startswith(b"content-length:"))
    async with taken_over(request) as line:
        await line.send(head + body)
        for sent in range(0, blanks, PIECE_BYTES):
            await line.send(_BLANKS[: blanks - sent])
    return Severed(right.status)


_BLANKS = b"\n" * PIECE_BYTES


async def _planted(fault: Planted, exchange: Exchange) -> web.StreamResponse:
    answer = await exchange.serve()
    planted = plant(body_of(answer), fault) if answer.status == HTTPStatus.OK else None
    if planted is None:
        return answer
    answer.body, at = planted
    request = exchange.request
    request.app[DIFFERENCES].add(
        Difference(
            fault=str(fault.__struct_config__.tag),
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            request_id=request.headers.get("X-Request-Id"),
            at=at,
        )
    )
    return answer


_OWN: CarryOut = {
    V1Status: CARRY_OUT[Status],
    Redirect: _redirect,
    Framed: _framed,
}


def _carried_out(kind: type[Fault]) -> CarryOut:
    if issubclass(kind, Planted):
        return {kind: _planted}
    return {kind: _OWN.get(kind) or CARRY_OUT[kind]}


V1_CARRY_OUT: CarryOut = {
    kind: how for each in V1_FAULTS.values() for kind, how in _carried_out(each).items()
}
