"""Which of the calls of a recording are compared, and why the others are not. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from bridge.comparing import Answer
from bridge.record.log.redaction import REMOVED
from bridge.resources import RESOURCES
from bridge.resources.routes import Match, Router, is_v1s, path_for_a_log
from bridge.secret import Secret
from bridge.v1.errors import LegacyCallError
from bridge.v1.notes import Notes
from bridge.verifying.har import Entry, Recording, entries

ROUTER = Router(RESOURCES)

ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a parameter


class Skipped(StrEnum):
    """Why a call is not compared."""

    UNREADABLE = "unreadable"
    NOT_V1 = "not-v1"
    WRITE = "write"
    NOT_TRANSLATED = "not-translated"
    NO_ANSWER = "no-answer"
    NO_BODY = "no-body"
    NOT_SERVED = "not-served"
    JSON = "json"
    REPEATED = "repeated"
    NO_CREDENTIAL = "no-credential"
    NO_V2 = "no-v2"
    PASSED_THROUGH = "passed-through"


MEANINGS: Mapping[Skipped, str] = {
    Skipped.UNREADABLE: "the entry is none of HAR 1.2",
    Skipped.NOT_V1: "its path is none of v1's",
    Skipped.WRITE: "it is a write, which is not made again",
    Skipped.NOT_TRANSLATED: "the bridge does not translate it",
    Skipped.NO_ANSWER: "the recording has no answer to it",
    Skipped.NO_BODY: "the recording has not all of its answer's body, or has it encoded",
    Skipped.NOT_SERVED: "v1 did not serve it: 3xx, 401 or 5xx",
    Skipped.JSON: "v1 answered in JSON, which the bridge does not speak there",
    Skipped.REPEATED: "the same is asked again later, and only the last answer can be true still",
    Skipped.NO_CREDENTIAL: "the recording has no credential for it, and none is given",
    Skipped.NO_V2: "the recording of v2 lacks a call that it takes",
    Skipped.PASSED_THROUGH: "v1 answered it again: the bridge that was asked passes it through",
}


class Read(NamedTuple):
    """A call to be compared."""

    recording: Recording
    number: int
    """Of its entry."""
    method: str
    """GET or HEAD."""
    scheme: str
    host: str
    path: str
    """Percent-encoded."""
    query: str
    """Percent-encoded, without a token."""
    match: Match
    accept: str | None
    authorization: Secret | None
    """The header, if the recording has it."""
    token: Secret | None
    """The `access_token` of the query, likewise."""
    when: str
    page: str
    has_stand_ins: bool

    @property
    def target(self) -> str:
        """What is called: path and query, without a secret."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def call(self) -> str:
        """What is called, without the ids of its path."""
        return _call(self.method, self.path)

    @property
    def v1(self) -> Answer:
        """What v1 answered: read from the recording."""
        said = self.recording.entry(self.number).answer
        assert said is not None  # noqa: S101 - else it were skipped
        body = b"" if self.method == "HEAD" else said.body
        return Answer(said.status, said.headers.get("content-type"), body or b"")


class Plan(NamedTuple):
    """What is to be compared, and what is not."""

    reads: list[Read]
    skipped: Counter[tuple[Skipped, str]]
    """By reason and call: its method and path, whose ids are replaced."""


def plan(recordings: Iterable[Recording], *, drops_repeated: bool) -> Plan:
    """Find the calls to be compared, in the order of the recordings.

    `drops_repeated` leaves out what is asked again later: where v2 is asked as it is by then, only
    the last answer of v1 can be expected of it. Entries stand in any order (HAR 1.2, "entries").
    """
    skipped: Counter[tuple[Skipped, str]] = Counter()
    reads: dict[object, Read] = {}
    for recording in recordings:
        for number, entry in entries(recording):
            found = _read(recording, number, entry)
            if found is None:
                continue
            if not isinstance(found, Read):
                skipped[found] += 1
                continue
            key = _identity(found) if drops_repeated else len(reads)
            if (other := reads.pop(key, None)) is not None:
                skipped[Skipped.REPEATED, found.call] += 1
                found = _later(other, found)
            reads[key] = found
    return Plan(list(reads.values()), skipped)


def _later(one: Read, next_one: Read) -> Read:
    """Return the read that was asked later; the next one where a time cannot be read."""
    try:
        return one if _moment(one.when) > _moment(next_one.when) else next_one
    except ValueError:
        return next_one


def _moment(when: str) -> datetime:
    """Read a time of ISO 8601, which is UTC where it has no zone.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(when)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _call(method: str, path: str) -> str:
    return f"{method} {path_for_a_log(path)}"


def _identity(read: Read) -> object:
    secrets = (read.authorization, read.token)
    digests = tuple(None if each is None else each.digest() for each in secrets)
    return (read.method, read.host, read.path, read.query, read.match.wants_json, digests)


def _read(
    recording: Recording, number: int, entry: Entry | None
) -> Read | tuple[Skipped, str] | None:
    """Return a call to be compared, or why it is not; None: it is the bridge's own, to v2."""
    if entry is None:
        return Skipped.UNREADABLE, ""
    url = _URL.fullmatch(entry.url)
    if url is None:  # such as `data:`
        return Skipped.NOT_V1, ""
    if entry.is_v2s or path_of_v2(url["path"]) is not None:
        return None
    path = _encoded(url["path"] or "/")
    if not is_v1s(path):
        return Skipped.NOT_V1, ""
    match = _match(entry, path)
    if isinstance(match, Skipped):
        return match, _call(entry.method, path)
    query, token = _without_token(_encoded(url["query"] or ""))
    return Read(
        recording=recording,
        number=number,
        method=entry.method,
        scheme=url["scheme"].lower(),
        host=url["host"],
        path=path,
        query=query,
        match=match,
        accept=entry.headers.get("accept"),
        authorization=_secret(entry.headers.get("authorization")),
        token=token,
        when=entry.when,
        page=entry.page,
        has_stand_ins=entry.has_stand_ins,
    )


_URL = re.compile(
    r"(?P<scheme>https?)://(?:[^/?#@]*@)?(?P<host>[^/?#@]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
    r"(?:#.*)?",
    re.IGNORECASE | re.DOTALL,
)

_V2 = re.compile(r"(?:/api)?/v2(?=/)")
"""How the paths of v2's calls begin: v1 had none like it."""


def path_of_v2(path: str) -> str | None:
    """Return a path as v2 documents it, without `/v2`; None: it is none of v2's."""
    found = _V2.match(path)
    return None if found is None else path[found.end() :]


_PLAIN = "".join(map(chr, range(0x21, 0x7F)))


def _encoded(text: str) -> str:
    """Percent-encode what a recording has decoded, as far as it is not ASCII."""
    return quote(text, safe=_PLAIN, errors="replace")


def _without_token(query: str) -> tuple[str, Secret | None]:
    pairs = parse_qsl(query, keep_blank_values=True)
    tokens = [value for name, value in pairs if name == ACCESS_TOKEN]
    if not tokens:
        return query, None
    kept = [(name, value) for name, value in pairs if name != ACCESS_TOKEN]
    return urlencode(kept), _secret(tokens[0])


def _secret(text: str | None) -> Secret | None:
    return None if not text or REMOVED in text else Secret(text)


def _match(entry: Entry, path: str) -> Match | Skipped:
    """Return the bridge's call for an entry of v1's, or why there is nothing to compare."""
    if entry.method not in {"GET", "HEAD"}:
        return Skipped.WRITE
    try:
        match = ROUTER.match(entry.method, path, Notes())
    except LegacyCallError:
        return Skipped.NOT_TRANSLATED
    return _lacks(entry, match) or match


def _lacks(entry: Entry, match: Match) -> Skipped | None:
    """Return why an answer of v1's cannot be compared, if it cannot."""
    said = entry.answer
    if said is None:
        return Skipped.NO_ANSWER
    # Whom v1 did not know the bridge may know, by a credential of its own.
    if said.status == 401 or said.status // 100 in {1, 3, 5}:
        return Skipped.NOT_SERVED
    if said.status // 100 == 2 and entry.method == "GET" and not said.body:
        return Skipped.NO_BODY
    is_json = "json" in said.headers.get("content-type", "").lower()
    return Skipped.JSON if is_json and match.call.json_flow is None else None


def wants_json(read: Read) -> bool:
    """Tell whether a call is to be answered in JSON, as v1 has."""
    content_type = read.v1.content_type or ""
    return read.match.call.json_flow is not None and "json" in content_type.lower()
