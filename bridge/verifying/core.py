"""What the bridge makes of a call from a recording of v2, without a server and without v2. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

from multidict import CIMultiDict

from bridge.comparing import Answer
from bridge.resources.failures import answer_to
from bridge.resources.flow import CountCalls, Flow, Step
from bridge.v1.dialects import Dialect
from bridge.v1.notes import Notes
from bridge.v1.wire import V1Request, V1Response
from bridge.v2.rate_limit import Rate
from bridge.v2.wire import V2Request, V2Response
from bridge.verifying.har import Entry, Recording, entries
from bridge.verifying.reads import Read, path_of_v2, wants_json

XML = "application/xml; charset=utf-8"

Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""What tells v2 calls apart: method, path below `/v2`, and parameters but the length of a page."""


class NotRecorded(Exception):
    """The recording of v2 lacks a call; `str()` is its method, path and query."""


class RecordedV2:
    """The answers of v2 in recordings."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        """Find them. Of several to the same call, the last counts."""
        self._found: dict[tuple[str, Key], tuple[Recording, int]] = {}
        for recording in recordings:
            for number, entry in entries(recording):
                if entry is None or entry.answer is None or entry.answer.body is None:
                    continue
                if (key := _key(entry)) is not None:
                    # A page of a capture is one legacy call, with the v2 calls made for it.
                    for page in {entry.page, ""}:
                        self._found[page, key] = (recording, number)

    def __len__(self) -> int:
        """Return the number of different calls."""
        return sum(not page for page, _ in self._found)

    def answer(self, request: V2Request, page: str) -> V2Response:
        """Return what v2 answered to a call, if there is one then for the legacy call of a `page`.

        Raises:
            NotRecorded: it is not in the recordings.
        """
        key = (request.method, request.path, _parameters(request.query))
        found = self._found.get((page, key)) or self._found.get(("", key))
        if found is None:
            query = f"?{request.query}" if request.query else ""
            raise NotRecorded(f"{request.method} {request.path}{query}")
        recording, number = found
        entry = recording.entry(number)
        said = entry.answer
        assert said is not None  # noqa: S101 - else it were not found
        return V2Response(said.status, said.body or b"", entry.url, CIMultiDict(said.headers))


def _key(entry: Entry) -> Key | None:
    try:
        url = urlsplit(entry.url)
    except ValueError:
        return None
    path = path_of_v2(url.path)
    return None if path is None else (entry.method, path, _parameters(url.query))


def _parameters(query: str) -> tuple[tuple[str, str], ...]:
    # Whoever recorded v2 may have asked for pages of another length; their links lead on.
    pairs = parse_qsl(query, keep_blank_values=True)
    return tuple(sorted(pair for pair in pairs if pair[0] != "per_page"))


def translate(read: Read, v2: RecordedV2, dialect: Dialect | None = None) -> Answer:
    """Return what the bridge answers to a call, if v2 answers it as recorded.

    Raises:
        NotRecorded: v2 would have to be asked what is not in the recording.
    """
    match = read.match
    if wants_json(read) and match.call.json_flow is not None:
        match = match._replace(call=replace(match.call, flow=match.call.json_flow))
    notes = Notes()
    legacy = V1Request(
        path=match.call.path.format_map(match.ids),
        ids=match.ids,
        dialect=dialect or match.call.dialect,
        base_uri=f"{read.scheme}://{read.host}",
        query=match.call.read_query(dict(parse_qsl(read.query, keep_blank_values=True)), notes),
        notes=notes,
    )
    try:
        answer = _run(match.call.flow(legacy), read, v2)
    except NotRecorded:
        raise
    except Exception as error:  # noqa: BLE001 - each is an answer, as it is to a client
        answer = answer_to(error)
    content_type = answer.headers.get("Content-Type", XML) if answer.body else None
    body = b"" if read.method == "HEAD" else b"".join(answer.body)
    return Answer(answer.status, content_type, body)


def _run(steps: Flow, read: Read, v2: RecordedV2) -> V1Response:
    answer: object = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            said: V1Response = end.value
            return said
        answer = _perform(step, read, v2)


def _perform(step: Step, read: Read, v2: RecordedV2) -> object:
    match step:
        case V2Request():
            return v2.answer(step, read.page)
        case CountCalls():
            return Rate(datetime.now(UTC), 0, 0.0)
        case _:
            return None
