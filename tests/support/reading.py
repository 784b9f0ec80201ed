"""Reading a request as a flow does, but in one place."""

from bridge.v1.notes import Notes
from bridge.v1.reader import Form, read_apart, read_at_once


def read_request(
    body: bytes, content_type: str | None, form: Form, notes: Notes
) -> dict[str, str | None]:
    """Return what a request says, wherever it is to be read."""
    values = read_at_once(body, content_type, form, notes)
    return read_apart(body, content_type, form, notes) if values is None else values
