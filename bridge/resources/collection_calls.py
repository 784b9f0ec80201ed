"""The calls that lists of v1 have in common, as flows: list, show, delete, create.

What they are about, and where v2 has it, is said in each resource's own module.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from bridge.resources.flow import Flow, Look, Made, Steps, ask, write_once
from bridge.resources.table import Collection, Entity, V2Id
from bridge.v1.errors import InvalidAnswer, NotFound
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.decoding import decode
from bridge.v2.errors import OutcomeUnknown, UpstreamFault
from bridge.v2.paging import Pager, page_type
from bridge.v2.wire import V2Request, V2Response, require_status
from bridge.v2.writes import Write


class Identified(msgspec.Struct):
    """Anything of v2 that has an id."""

    id: V2Id


class Created(NamedTuple):
    """A thing that v2 has made, as it is to be told."""

    id: int
    document: bytes


def list_all(
    collection: Collection, path: str, call: V1Request, parameters: Mapping[str, str]
) -> Flow:
    """List what v2 has at `path`, in its order, all pages in one document.

    A page is translated when it arrives, so that no more than one of v2's is held.
    """
    pager = Pager(path, parameters, call.page_limit)
    parts: list[bytes] = []
    while request := pager.next_request():
        response = yield from ask(request)
        require_status(response, 200)
        page = collection.translate(response.body, call)
        pager.follow(page.next, response.url)
        parts += page.parts
    return V1Response(200, collection.document(parts, call))


def show_one(collection: Collection, path: str, call: V1Request, wanted: int, missing: str) -> Flow:
    """Show what has the id `wanted`, of the list that v2 has at `path`.

    The list is walked up to the page that has it: for what v2 cannot show alone.

    Raises:
        NotFound: no page has it, which the sentence `missing` tells.
    """
    pager = Pager(path, {}, call.page_limit)
    while request := pager.next_request():
        response = yield from ask(request)
        ids = [each.id for each in pager.read(response, collection.key, Identified)]
        if wanted in ids:
            page = decode(response.body, page_type(collection.key, msgspec.Raw))
            item = page.items[ids.index(wanted)]
            return V1Response(200, (collection.entity.write(item, call),))
    raise NotFound(missing)


def delete_one(path: str) -> Flow:
    """Delete what v2 has at `path`.

    What was asked before, and may have been served then, is done when there is nothing left.
    """
    response = yield from ask(V2Request("DELETE", path))
    if not (response.repeated and response.status == 404):
        require_status(response, 200)
        if response.body.strip():
            # v2 has nothing to say to this. A web page is somebody else's, and deletes nothing.
            decode(response.body, object)
    return V1Response(200)


def create(write: Write, look: Look, entity: Entity, call: V1Request) -> Steps[Created]:
    """Have v2 make an `entity`, once, and return what it has made.

    Raises:
        OutcomeUnknown: it may have made one, or has made one that cannot be told.
        UpstreamError, NotFound: see `write_once`.
    """
    made = yield from write_once(write, look, _read_made)
    try:
        # All of the way to the XML, for here it can still be told what a failure means.
        document = entity.write(made.data, call)
    except (UpstreamFault, InvalidAnswer) as unreadable:
        raise OutcomeUnknown(
            f"v2 has made {entity.element} {made.id}, but: {unreadable}"
        ) from unreadable
    return Created(made.id, document)


def _read_made(response: V2Response) -> Made:
    return Made(decode(response.body, Identified).id, response.body)
