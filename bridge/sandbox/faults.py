"""Which misbehaviour can be asked of the sandbox, and which calls it befalls. Pure.

How a fault looks on the wire is in misbehaviour.py, the endpoint that takes rules in control.py.
The docstrings of the faults are the table in README.md.
"""

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from bridge.sandbox.errors import NotFoundError, WrongFaultError
from bridge.sandbox.seeds import ACCOUNT_IDS, USERS
from bridge.sandbox.throttle import WINDOW_SECONDS, SlidingWindow

Place = Literal["before", "head", "body"]
Shape = Literal["list", "object", "string", "null"]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

# No fault lasts longer than a day, which is as much as every event loop's timers can take.
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]
FinalStatus = Annotated[int, Meta(ge=200, le=599)]
# What stands in a head must not be able to end it.
HeaderText = Annotated[str, Meta(pattern=r"\A[ -~]*\Z")]


class Fault(msgspec.Struct, frozen=True, tag_field="fault", forbid_unknown_fields=True):
    """One way to misbehave, with its parameters. `applied`: whether a write takes effect."""


class Delay(Fault, frozen=True, tag="delay"):
    """Serves rightly, but `seconds` late; a write is applied `before` or `after` them."""

    seconds: Seconds
    applied: Literal["before", "after"] = "after"


class Hang(Fault, frozen=True, tag="hang"):
    """Never answers, and holds the connection open until the client closes it."""

    applied: bool = False


class Reset(Fault, frozen=True, tag="reset"):
    """Resets the connection (RST) before the answer, or in the middle of its head or body."""

    at: Place = "before"
    applied: bool = False


class Close(Fault, frozen=True, tag="close"):
    """Closes the connection in good order (FIN) at the same places."""

    at: Place = "before"
    applied: bool = False


class Truncate(Fault, frozen=True, tag="truncate"):
    """Promises the whole body (Content-Length), sends half of it and closes the connection."""

    applied: bool = True


class Trickle(Fault, frozen=True, tag="trickle"):
    """Sends the right answer, head and body, so many `bytes` every so many `seconds`."""

    bytes: Count
    seconds: Seconds
    applied: bool = True


class Status(Fault, frozen=True, tag="status"):
    """Answers `status`; the body is v2's error object if none is given. After 1xx it closes."""

    status: Annotated[int, Meta(ge=101, le=599)]
    retry_after: Annotated[int, Meta(ge=0)] | HeaderText | None = None
    body: str | None = None
    content_type: HeaderText = "application/json; charset=utf-8"
    applied: bool = False


class Html(Fault, frozen=True, tag="html"):
    """Answers a web page, as a captive portal or a maintenance page does."""

    status: FinalStatus = 200
    applied: bool = True


class MalformedJson(Fault, frozen=True, tag="malformed-json"):
    """Answers JSON that ends in its middle, with a Content-Length that is right."""

    applied: bool = True


class WrongShape(Fault, frozen=True, tag="wrong-shape"):
    """Answers valid JSON that is not v2's: an empty `list` or `object`, a `string` or `null`."""

    shape: Shape = "list"
    applied: bool = True


class WrongType(Fault, frozen=True, tag="wrong-type"):
    """Answers v2's JSON, but every member called `field` has a value of another type."""

    field: str = "id"
    applied: bool = True


class Oversize(Fault, frozen=True, tag="oversize"):
    """Answers v2's JSON with a padding in front; the body has `bytes`, chunked or announced."""

    bytes: Count
    chunked: bool = True
    applied: bool = True


class CursorLoop(Fault, frozen=True, tag="cursor-loop"):
    """Serves a list, but its `links.next` leads to the same page; other answers stay right."""


class Throttle(Fault, frozen=True, tag="throttle"):
    """Answers v2's 429: to every call, or to a token's calls beyond `calls` in `seconds`."""

    retry_after: Annotated[int, Meta(ge=0)] = int(WINDOW_SECONDS)
    calls: Count | None = None
    seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None

    def __post_init__(self) -> None:
        """Refuse half a limit."""
        if (self.calls is None) != (self.seconds is None):
            raise ValueError("`calls` and `seconds` belong together")


class NotHttp(Fault, frozen=True, tag="not-http"):
    """Answers bytes that are no HTTP, and closes the connection."""

    applied: bool = False


FaultKinds = Mapping[str, type[Fault]]
"""The faults that can be asked for, by name."""


def by_name(*kinds: type[Fault]) -> FaultKinds:
    """Return faults by the names that rules give them."""
    return {str(kind.__struct_config__.tag): kind for kind in kinds}


FAULTS = by_name(
    Delay,
    Hang,
    Reset,
    Close,
    Truncate,
    Trickle,
    Status,
    Html,
    MalformedJson,
    WrongShape,
    WrongType,
    Oversize,
    CursorLoop,
    Throttle,
    NotHttp,
)


class Matching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls a rule is for; what is not given does not matter.

    `path` is a regular expression for the whole path, without the query. Of the calls that match,
    the first `skip` pass; then one in `every` misbehaves, beginning with the first, and no more
    than `times`, each with this `probability`.
    """

    method: Method | Annotated[tuple[Method, ...], Meta(min_length=1)] | None = None
    path: str | None = None
    account_id: int | None = None
    token: str | None = None
    skip: Annotated[int, Meta(ge=0)] = 0
    every: Count | None = None
    times: Count | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        """Refuse what could never match: above all a token that is a real one."""
        if self.path is not None:
            try:
                re.compile(self.path)
            except re.error as error:
                raise ValueError(f"`path` is no regular expression: {error}") from error
        if self.account_id is not None and self.account_id not in ACCOUNT_IDS:
            known = ", ".join(map(str, sorted(ACCOUNT_IDS)))
            raise ValueError(f"`account_id` is none of the sandbox's: {known}")
        if self.token is not None and self.token not in USERS:
            raise ValueError(f"`token` is none of the sandbox's: {', '.join(USERS)}")


_Kind = TypeVar("_Kind", bound=msgspec.Struct)

_MATCHING_MEMBERS = frozenset(Matching.__struct_fields__)


class NewRule(NamedTuple):
    """A rule as it was given."""

    matching: Matching
    fault: Fault


class Arrival(NamedTuple):
    """As much of a call as rules look at; `account_id` is the header's text."""

    method: str
    path: str
    account_id: str
    token: str


def read_rules(data: bytes, kinds: FaultKinds = FAULTS) -> list[NewRule]:
    """Read one rule, or a list of rules, from JSON; its faults are of these `kinds`.

    Raises:
        WrongFaultError: it is no JSON, or a rule is wrong; the text says which, and its member.
    """
    given = _decode(data)
    if not isinstance(given, list):
        return [_read_rule(given, kinds)]
    rules = []
    for number, each in enumerate(given, 1):
        try:
            rules.append(_read_rule(each, kinds))
        except WrongFaultError as error:
            raise WrongFaultError(f"rule {number}: {error}") from error
    return rules


def read_fault(text: str, kinds: FaultKinds = FAULTS) -> Fault:
    """Read a fault as one call's header gives it: its name, or a JSON object with parameters.

    Raises:
        WrongFaultError: there is no such fault, or a parameter is wrong.
    """
    if text.startswith("{"):
        return _fault(_members(_decode(text.encode("utf-8", "surrogateescape"))), kinds)
    return _fault({"fault": text}, kinds)


def _read_rule(given: object, kinds: FaultKinds) -> NewRule:
    members = _members(given)
    matching = {name: members.pop(name) for name in _MATCHING_MEMBERS & members.keys()}
    # The fault first: where both are wrong, a name that is no fault's is the more telling.
    fault = _fault(members, kinds)
    return NewRule(_converted(matching, Matching), fault)


def _fault(members: dict[str, Any], kinds: FaultKinds) -> Fault:
    name = members.get("fault")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WrongFaultError(f"`fault` must be one of {', '.join(kinds)}: {name!r}")
    return _converted(members, kind)


def _members(given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise WrongFaultError("not a JSON object")
    return dict(given)


def _decode(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WrongFaultError(f"not JSON: {error}") from error


def _converted(members: Mapping[str, Any], kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError as error:
        raise WrongFaultError(str(error)) from error


def chance(seed: int, rule_id: int, number: int) -> float:
    """Return a number from 0 up to 1 that depends on these three and on nothing else."""
    digest = hashlib.blake2b(f"{seed}/{rule_id}/{number}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


class Rule:
    """A rule in force, and how often it was met: `matched` calls it was for, `fired` of them."""

    def __init__(self, rule_id: int, new: NewRule, monotonic: Callable[[], float]) -> None:
        """Put `new` in force; `monotonic` answers the seconds that a limit measures with."""
        self.id = rule_id
        self.matching = new.matching
        self.fault = new.fault
        self._monotonic = monotonic
        self._methods = _methods(new.matching.method)
        self._path = None if new.matching.path is None else re.compile(new.matching.path)
        self.restart()

    def restart(self) -> None:
        """Count from the beginning."""
        self.matched = 0
        self.fired = 0
        self._window = _window(self.fault, self._monotonic)

    def befalls(self, arrival: Arrival, seed: int) -> Fault | None:
        """Count a call if it matches, and return what becomes of it; None lets it pass."""
        if not self._matches(arrival):
            return None
        self.matched += 1
        matching = self.matching
        if (
            self.matched <= matching.skip
            or (self.matched - matching.skip - 1) % (matching.every or 1)
            or (matching.times is not None and self.fired >= matching.times)
            or chance(seed, self.id, self.matched) >= matching.probability
        ):
            return None
        fault = self._within_limit(arrival)
        if fault is not None:
            self.fired += 1
        return fault

    def _matches(self, arrival: Arrival) -> bool:
        matching = self.matching
        return (
            (self._methods is None or arrival.method in self._methods)
            and (matching.account_id is None or arrival.account_id == str(matching.account_id))
            and (matching.token is None or arrival.token == matching.token)
            and (self._path is None or self._path.fullmatch(arrival.path) is not None)
        )

    def _within_limit(self, arrival: Arrival) -> Fault | None:
        if self._window is None:
            return self.fault
        wait = self._window.admit(arrival.token)
        if wait is None:
            return None
        return msgspec.structs.replace(self.fault, retry_after=math.ceil(wait))


def _methods(given: str | tuple[str, ...] | None) -> frozenset[str] | None:
    if given is None:
        return None
    return frozenset((given,) if isinstance(given, str) else given)


def _window(fault: Fault, monotonic: Callable[[], float]) -> SlidingWindow | None:
    if not isinstance(fault, Throttle) or fault.calls is None or fault.seconds is None:
        return None
    return SlidingWindow(monotonic, calls=fault.calls, seconds=fault.seconds)


class FaultRules:
    """The rules in force, in the order they were given: the first that fires wins."""

    def __init__(
        self,
        rules: Sequence[NewRule] = (),
        *,
        seed: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put `rules` in force; `seed` decides who is hit where a probability is given."""
        self._rules: dict[int, Rule] = {}
        self._last_id = 0
        self._seed = seed
        self._monotonic = monotonic
        self.add(rules)

    def __bool__(self) -> bool:
        """Tell whether any rule is in force."""
        return bool(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        """Yield the rules in force."""
        return iter(self._rules.values())

    @property
    def seed(self) -> int:
        """What the decisions of rules with a probability depend on, beside the call's number."""
        return self._seed

    def restart(self, seed: int) -> None:
        """Take a seed, and have every rule count from the beginning, so that a run repeats."""
        self._seed = seed
        for rule in self:
            rule.restart()

    def add(self, rules: Sequence[NewRule]) -> list[Rule]:
        """Put `rules` behind those in force, and return them as they are in force."""
        added = []
        for new in rules:
            self._last_id += 1
            added.append(Rule(self._last_id, new, self._monotonic))
            self._rules[self._last_id] = added[-1]
        return added

    def remove(self, rule_id: int) -> None:
        """Put a rule out of force.

        Raises:
            NotFoundError: there is none with this id.
        """
        if self._rules.pop(rule_id, None) is None:
            raise NotFoundError(f"There is no rule {rule_id}")

    def clear(self) -> None:
        """Put all rules out of force. Ids start again at 1: chance depends on them."""
        self._rules.clear()
        self._last_id = 0

    def befalls(self, arrival: Arrival) -> Fault | None:
        """Return what becomes of a call; None: it is served."""
        for rule in self._rules.values():
            fault = rule.befalls(arrival, self._seed)
            if fault is not None:
                return fault
        return None


def describe(rule: Rule) -> dict[str, Any]:
    """Return a rule as JSON: its id, all that was given or has a default, and its counts."""
    given = {**msgspec.to_builtins(rule.fault), **msgspec.to_builtins(rule.matching)}
    return {
        "id": rule.id,
        **{name: value for name, value in given.items() if value is not None},
        "matched": rule.matched,
        "fired": rule.fired,
    }
