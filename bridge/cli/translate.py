"""`harvest-bridge translate`: what the bridge would answer, without a server."""

import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from bridge.cli.terminal import fail, failing_at
from bridge.resources import RESOURCES
from bridge.v1.dialects import Dialect
from bridge.v1.errors import InvalidAnswer
from bridge.v1.wire import V1Request
from bridge.v2.decoding import decode
from bridge.v2.errors import UpstreamFault

app = typer.Typer(rich_markup_mode=None)

COLLECTIONS = {
    resource.name: resource.collection for resource in RESOURCES if resource.collection is not None
}


@app.command()
def translate(
    invoice_id: Annotated[
        int, typer.Option(min=1, help="The invoice that this belongs to: v2 does not say.")
    ],
    dialect: Annotated[Dialect, typer.Option(help="The dialect to write.")] = Dialect.CLASSIC,
    resource: Annotated[
        str, typer.Option(help=f"What an object is that is no page: {' or '.join(COLLECTIONS)}.")
    ] = "invoice-messages",
) -> None:
    """Turn v2 JSON on standard input into XML on standard output.

    It may be a page of a list, whose key says what it holds, or a single object.
    """
    if resource not in COLLECTIONS:
        fail(f"--resource: must be {' or '.join(COLLECTIONS)}")
    call = V1Request(path="", ids={"invoice_id": invoice_id}, dialect=dialect)
    with failing_at(UpstreamFault, InvalidAnswer, status=1):
        document = b"".join(_document(sys.stdin.buffer.read(), call, resource))
    sys.stdout.buffer.write(document)
    for note, count in call.notes:
        typer.echo(f"note: {note.code}: {note.subject} ({count})", err=True)


def _document(data: bytes, call: V1Request, resource: str) -> Sequence[bytes]:
    members = decode(data, dict[str, msgspec.Raw])
    for collection in COLLECTIONS.values():
        if collection.key in members:
            return collection.document(collection.translate(data, call).parts, call)
    return (COLLECTIONS[resource].entity.write(data, call),)
