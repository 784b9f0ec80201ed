"""From what was overheard of a call to what is kept of it.

Made by the writer's thread: to take secrets and people out of texts may take a while.
"""

import structlog

from bridge.record.log.exchange import (
    Exchange,
    Message,
    OtherAnswer,
    UpstreamExchange,
    pack,
    unpack,
)
from bridge.record.log.redaction import Redaction
from bridge.secret import Secret
from bridge.tape import BODY_KEPT, CUT, Heard, Take, Tape

UNREADABLE = "unreadable"
"""The body is nothing that could be redacted, so nothing of it is kept."""

_log = structlog.get_logger("bridge.capture")


class Overheard:
    """A call that is to be kept. It may hold secrets, and says nothing of them."""

    __slots__ = (
        "_packed",
        "_tape",
        "host",
        "http",
        "method",
        "milliseconds",
        "path",
        "raw",
        "shared_with",
        "size",
        "status",
    )

    def __init__(  # noqa: PLR0913 - what the record knows besides
        self,
        tape: Tape,
        *,
        method: str,
        raw: bool = False,
        host: str | None = None,
        path: str | None = None,
        status: int | None = None,
        milliseconds: float = 0.0,
        http: str | None = None,
        shared_with: str | None = None,
    ) -> None:
        """Keep `tape`; unless it is `raw`, with the `host` and `path` that a log may know.

        Without a `path`, it is that which was called.
        """
        self._tape: Tape | None = tape
        self._packed: bytes | None = None
        self.size = tape.size
        """Bytes that it takes while it waits, about."""
        self.method = method
        self.raw = raw
        self.host = host
        self.path = path
        self.status = status
        self.milliseconds = milliseconds
        self.http = http
        self.shared_with = shared_with

    def packed(self) -> bytes | None:
        """Return what is kept; None: a defect has left nothing of it. Made once."""
        if self._tape is not None:
            try:
                self._packed = pack(self._exchange(self._tape))
            except Exception as error:  # noqa: BLE001 - whose words may be those of the call
                _log.error("not_captured", cause=type(error).__name__)
            self._tape = None
        return self._packed

    def _exchange(self, tape: Tape) -> Exchange:
        redaction = Redaction((each.reveal() for each in tape.secrets), raw=self.raw)
        return Exchange(
            method=self.method,
            url=self._url(redaction, tape),
            status=self.status,
            began=tape.began * 1000,
            milliseconds=self.milliseconds,
            request=_message(redaction, tape.request),
            answer=_message_or_none(redaction, tape.answer),
            upstream=[_upstream(redaction, tape, each) for each in tape.takes],
            http=self.http,
            shared_with=self.shared_with,
            raw=self.raw,
        )

    def _url(self, redaction: Redaction, tape: Tape) -> str:
        if self.raw:
            return redaction.url(f"{tape.scheme}://{tape.host}{tape.target}")
        path, mark, query = tape.target.partition("?")
        known = f"{tape.scheme}://{self.host or 'unknown'}{self.path or path}"
        return redaction.url(f"{known}{mark}{query}")


class OverheardOther:
    """What the other side has answered to a call that is kept. It may hold secrets."""

    __slots__ = ("_body", "_content_type", "_raw", "_secrets", "_side", "_status", "size")

    def __init__(  # noqa: PLR0913, PLR0917 - what an answer is made of, and how it is kept
        self,
        side: str,
        status: int,
        content_type: str | None,
        body: bytes,
        secrets: tuple[Secret, ...],
        raw: bool,
    ) -> None:
        self._side = side
        self._status = status
        self._content_type = content_type
        self._body = body[:BODY_KEPT]
        self._secrets = secrets
        self._raw = raw
        self.size = len(body)
        """Bytes of the whole body."""

    def added_to(self, kept: bytes) -> bytes | None:
        """Return an exchange as it is kept, with this; None: a defect has left nothing of it."""
        try:
            exchange = unpack(kept)
            exchange.other = self._other()
            return pack(exchange)
        except Exception as error:  # noqa: BLE001 - whose words may be those of the call
            _log.error("not_captured", cause=type(error).__name__)
            return None

    def _other(self) -> OtherAnswer:
        redaction = Redaction((each.reveal() for each in self._secrets), raw=self._raw)
        is_cut = self.size > len(self._body)
        content_type = self._content_type or ""
        body = redaction.body(self._body, content_type, cut=is_cut)
        left_out = UNREADABLE if body is None else CUT if is_cut else None
        headers = redaction.headers({"Content-Type": content_type} if content_type else {})
        return OtherAnswer(
            self._side, self._status, Message(headers, body or b"", self.size, left_out)
        )


def _upstream(redaction: Redaction, tape: Tape, take: Take) -> UpstreamExchange:
    call = take.call
    return UpstreamExchange(
        method=call.method,
        url=redaction.url(take.url),
        status=call.status,
        error=call.error,
        started=round((call.started - tape.started) * 1000, 1),
        milliseconds=call.milliseconds,
        request=_message_or_none(redaction, take.request),
        answer=_message_or_none(redaction, take.answer),
        shared=call.shared,
    )


def _message_or_none(redaction: Redaction, heard: Heard | None) -> Message | None:
    return None if heard is None else _message(redaction, heard)


def _message(redaction: Redaction, heard: Heard) -> Message:
    is_cut = heard.left_out == CUT
    body = redaction.body(heard.body, heard.headers.get("Content-Type", ""), cut=is_cut)
    return Message(
        redaction.headers(heard.headers),
        body or b"",
        heard.size,
        UNREADABLE if body is None else heard.left_out,
    )
