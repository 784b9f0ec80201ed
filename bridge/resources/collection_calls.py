"""The calls that lists of v1 have in common, as flows: list, show, delete, create.

What they are about, and where v2 has it, is said in each resource's own module.
"""

from collections.abc import Mapping

import msgspec

from bridge.resources.flow import Flow, GoElsewhere, Look, Steps, write_once
from bridge.resources.table import Collection, Entity, Identified
from bridge.v1.errors import InvalidAnswer, NotFound
from bridge.v1.reader import Form, read_apart, read_at_once
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.decoding import decode
from bridge.v2.errors import OutcomeUnknown, UpstreamFault
from bridge.v2.paging import Pager, page_type
from bridge.v2.wire import V2Request, V2Response, require_status, require_success
from bridge.v2.writes import Write


def list_all(collection: Collection, call: V1Request, parameters: Mapping[str, str]) -> Flow:
    """List what v2 has, in its order, all pages in one document.

    A page is translated when it arrives, so that no more than one of v2's is held.
    """
    pager = Pager(collection.path_of(call), parameters, call.page_limit)
    parts: list[bytes] = []
    while request := pager.next_request():
        response: V2Response = yield request
        require_status(response, 200)
        page = collection.translate(response.body, call)
        pager.follow(page.next, response.url)
        parts += page.parts
    return V1Response(200, collection.document(parts, call))


def show_one(collection: Collection, call: V1Request) -> Flow:
    """Show the item whose id comes last in the path.

    The list is walked up to the page that has it: for what v2 cannot show alone.

    Raises:
        NotFound: no page has it.
    """
    name, wanted = list(call.ids.items())[-1]
    pager = Pager(collection.path_of(call), {}, call.page_limit)
    while request := pager.next_request():
        response: V2Response = yield request
        ids = [each.id for each in pager.read(response, collection.key, Identified)]
        if wanted in ids:
            page = decode(response.body, page_type(collection.key, msgspec.Raw))
            item = page.items[ids.index(wanted)]
            return V1Response(200, (collection.entity.write(item, call),))
    raise NotFound(f"Invoice {call.ids['invoice_id']} has no {name.removesuffix('_id')} {wanted}.")


def delete_one(collection: Collection, call: V1Request) -> Flow:
    """Delete the item whose id comes last in the path.

    What was asked before, and may have been served then, is done when there is nothing left.
    """
    wanted = list(call.ids.values())[-1]
    response: V2Response = yield V2Request("DELETE", f"{collection.path_of(call)}/{wanted}")
    if not (response.repeated and response.status == 404):
        require_success(response)
        if response.body.strip():
            # v2 has nothing to say to this. A web page is somebody else's, and deletes nothing.
            decode(response.body, msgspec.Raw)
    return V1Response(200)


def read(call: V1Request, form: Form) -> Steps[dict[str, str | None]]:
    """Read the elements of a request (`bridge.v1.reader`): elsewhere, unless it is short and plain.

    Raises:
        UnsupportedMediaType, InvalidRequest: see `read_at_once`.
    """
    values = read_at_once(call.body, call.content_type, form, call.notes)
    if values is None:
        yield GoElsewhere()
        values = read_apart(call.body, call.content_type, form, call.notes)
    return values


def create(write: Write, look: Look, entity: Entity, call: V1Request) -> Flow:
    """Have v2 make an `entity`, once, and show what it has made: below the call's path.

    Raises:
        OutcomeUnknown: it may have made one, or has made one that cannot be told.
        UpstreamError, NotFound: see `write_once`.
    """
    made = yield from write_once(write, look)
    try:
        # All of the way to the XML, for here it can still be told what a failure means.
        document = entity.write(made.data, call)
    except (UpstreamFault, InvalidAnswer) as unreadable:
        raise OutcomeUnknown(
            f"v2 has made {entity.element} {made.id}, but: {unreadable}"
        ) from unreadable
    return V1Response(201, (document,), {"Location": f"{call.path}/{made.id}"})
