"""Whether a password is the right one: Argon2id off the event loop, and what keeps it from harm.

Each guard has its part of the file: pairs that were right are remembered, attempts that fail are
slowed down, and the ones that have to be computed wait in turn. Whose password it is, is looked up
in `bridge.identity.book`.
"""

import asyncio
import base64
import hmac
import ipaddress
import os
import secrets
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, VerifyMismatchError
from argon2.low_level import Type, verify_secret
from argon2.profiles import RFC_9106_LOW_MEMORY

from bridge.identity.book import Cost, Entry, login_key, subdomain_key
from bridge.secret import Secret
from bridge.v1.errors import Overloaded

COST = Cost(
    memory=RFC_9106_LOW_MEMORY.memory_cost,
    passes=RFC_9106_LOW_MEMORY.time_cost,
    lanes=RFC_9106_LOW_MEMORY.parallelism,
    salt_length=RFC_9106_LOW_MEMORY.salt_len,
    tag_length=RFC_9106_LOW_MEMORY.hash_len,
)
"""RFC 9106, section 4, the second recommended option: 64 MiB, 3 passes, 4 lanes; 16-byte salt,
32-byte tag. argon2-cffi's default; a verification holds that much memory while it runs."""


def hash_password(password: Secret, cost: Cost = COST) -> str:
    """Return the Argon2id hash of a password, in the form `$argon2id$v=19$…`.

    Raises:
        ValueError: the password is empty.
    """
    octets = _octets(password)
    if not octets:
        raise ValueError("a password must not be empty")
    return PasswordHasher(
        time_cost=cost.passes,
        memory_cost=cost.memory,
        parallelism=cost.lanes,
        hash_len=cost.tag_length,
        salt_len=cost.salt_length,
        type=Type.ID,
    ).hash(octets)


def _octets(password: Secret) -> bytes:
    """Return a password's bytes; NFC, since keyboards differ in how they compose (RFC 8265, 4.2).

    A lone surrogate is no Unicode, but can be in a Python string.
    """
    return unicodedata.normalize("NFC", password.reveal()).encode("utf-8", "surrogatepass")


def _matches(encoded: str, octets: bytes) -> bool:
    """Compute the hash; any failure but a mismatch is raised, as Argon2Error."""
    try:
        return verify_secret(encoded.encode("ascii"), octets, Type.ID)
    except VerifyMismatchError:
        return False


def _nobody(cost: Cost) -> str:
    """Return a hash that no password is known to have, and that costs as much as any other."""
    salt, tag = (
        base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()
        for length in (cost.salt_length, cost.tag_length)
    )
    return f"$argon2id$v=19$m={cost.memory},t={cost.passes},p={cost.lanes}${salt}${tag}"


# Pairs that were right.

Clock = Callable[[], float]
"""Answers seconds that never go back."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class _Recent(Generic[_Key, _Value]):
    """The values that were put last, each for a time, and no more than a number of them."""

    def __init__(self, size: int, seconds: float, clock: Clock) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._values: OrderedDict[_Key, tuple[float, _Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: _Key, *, touch: bool = False) -> _Value | None:
        """Return a value; with `touch` it is then the last to be pushed out. Its time runs on."""
        put = self._values.get(key)
        if put is None:
            return None
        if self._clock() - put[0] >= self._seconds:
            del self._values[key]
            return None
        if touch:
            self._values.move_to_end(key)
        return put[1]

    def put(self, key: _Key, value: _Value) -> None:
        self._values[key] = (self._clock(), value)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def drop(self, key: _Key) -> None:
        self._values.pop(key, None)


# Attempts that fail.


@dataclass(frozen=True, slots=True)
class BackOff:
    """How failed attempts slow the next ones down."""

    failures: int = 5
    """As many failures of one login from one address bring the first pause."""
    failures_of_address: int = 25
    """As many from one address, whatever the logins. Of one login, only those count here that come
    before its own pauses: one job with an old password does not shut out its neighbours."""
    first: float = 1.0
    """Seconds of the first pause; each further failure doubles it."""
    longest: float = 60.0
    """Seconds."""
    quiet: float = 900.0
    """Seconds without a failure, after which all is forgotten."""
    remembered: int = 10_000
    """The most logins, and the most addresses, that are kept in mind."""

    def pause(self, failures: int, threshold: int) -> float:
        """Return how many seconds to refuse for, after that many failures."""
        if failures < threshold:
            return 0.0
        # An exponent beyond this would only overflow.
        return min(self.longest, self.first * 2.0 ** min(failures - threshold, 64))


@dataclass(slots=True)
class _Failures:
    count: int
    open_again: float
    """On the clock: attempts before that are refused."""


class _Failing:
    """Counts failures by some key, against one threshold."""

    def __init__(self, policy: BackOff, threshold: int, clock: Clock) -> None:
        self._policy = policy
        self._threshold = threshold
        self._clock = clock
        self._failures: _Recent[bytes, _Failures] = _Recent(policy.remembered, policy.quiet, clock)

    def refused(self, key: bytes) -> bool:
        failures = self._failures.get(key)
        return failures is not None and self._clock() < failures.open_again

    def failed(self, key: bytes) -> bool:
        """Count a failure, and return whether there had been enough of them already."""
        before = self._failures.get(key)
        count = 1 if before is None else before.count + 1
        pause = self._policy.pause(count, self._threshold)
        self._failures.put(key, _Failures(count, self._clock() + pause))
        return count > self._threshold

    def succeeded(self, key: bytes) -> None:
        self._failures.drop(key)


# Attempts that wait.


@dataclass(frozen=True, slots=True)
class Turns:
    """How many verifications may run and wait."""

    running: int = 2
    """At once, with 64 MiB each. An address may have all of these but one, if there are more."""
    waiting: int = 64
    """Altogether."""
    of_address: int = 16
    """Running and waiting, of one address."""
    retry_after: int = 2
    """Seconds that whoever is turned away should wait."""

    def exceeded(self) -> Overloaded:
        """Return what whoever is turned away is told."""
        return Overloaded("Too many logins are being checked: try again soon.", self.retry_after)


@dataclass(eq=False, slots=True)
class _Attempt:
    """One verification, and everybody who waits for its outcome."""

    key: bytes
    address: bytes
    login: bytes
    encoded: str = field(repr=False)
    octets: bytes = field(repr=False)
    known: bool
    """Whether there is such a login: the stand-in hash must not make anybody right."""
    outcome: asyncio.Future[bool]
    waiting: int = 0
    started: bool = False


class _Queue:
    """Attempts by address; the addresses take turns, so that none waits for all of another's."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: OrderedDict[bytes, deque[_Attempt]] = OrderedDict()
        self._running: dict[bytes, int] = {}
        self._running_of_one = max(1, turns.running - 1)

    def put(self, attempt: _Attempt) -> _Attempt | None:
        """Queue an attempt, and return the one that had to give way for it, if any.

        When the queue is full, that is the last one of the address that has most in it. With no
        such address but its own, the attempt itself is turned away.

        Raises:
            Overloaded: the attempt is turned away.
        """
        own = len(self._waiting.get(attempt.address, ()))
        if own + self._running.get(attempt.address, 0) >= self._turns.of_address:
            raise self._turns.exceeded()
        given_way = None
        if sum(map(len, self._waiting.values())) >= self._turns.waiting:
            longest = max(self._waiting.values(), key=len)
            if len(longest) <= own + 1:
                raise self._turns.exceeded()
            given_way = longest[-1]
            self.drop(given_way)
        self._waiting.setdefault(attempt.address, deque()).append(attempt)
        return given_way

    def drop(self, attempt: _Attempt) -> None:
        """Take out an attempt that waits."""
        own = self._waiting[attempt.address]
        own.remove(attempt)
        if not own:
            del self._waiting[attempt.address]

    def start(self) -> _Attempt | None:
        """Take out the attempt whose turn it is to run, if one may."""
        if sum(self._running.values()) >= self._turns.running:
            return None
        for address in self._waiting:
            if self._running.get(address, 0) < self._running_of_one:
                attempt = self._waiting[address][0]
                self.drop(attempt)
                if address in self._waiting:
                    self._waiting.move_to_end(address)
                self._running[address] = self._running.get(address, 0) + 1
                return attempt
        return None

    def end(self, attempt: _Attempt) -> None:
        """Give free the place of an attempt that ran."""
        left = self._running[attempt.address] - 1
        if left:
            self._running[attempt.address] = left
        else:
            del self._running[attempt.address]

    def all(self) -> list[_Attempt]:
        """Return every attempt that waits."""
        return [attempt for own in self._waiting.values() for attempt in own]


# All of it together.


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a checker computes, refuses and remembers."""

    turns: Turns = field(default_factory=Turns)
    back_off: BackOff = field(default_factory=BackOff)
    right_pairs: int = 10_000
    """The most right pairs to remember."""
    right_seconds: float = 900.0
    """How long to remember each."""


class PasswordChecker:
    """Tells right passwords from wrong ones.

    Right pairs are remembered for a while, under a keyed digest that takes in the hash they were
    checked against: once the book has another hash, or none, they count for nothing. A wrong
    password, an unknown login and an unknown subdomain go the same way and take the same time,
    provided that the book's hashes have one cost: where they differ, nobody's is the usual one.

    Belongs to one event loop.
    """

    def __init__(
        self,
        usual_cost: Callable[[], Cost | None] = lambda: COST,
        limits: Limits | None = None,
        *,
        clock: Clock = time.monotonic,
        executor: Executor | None = None,
    ) -> None:
        """Make a checker.

        Args:
            usual_cost: answers what the book's hashes cost now: `lambda: keeper.book.usual_cost`.
            limits: how much is computed, refused and remembered.
            clock: answers seconds that never go back.
            executor: runs the verifications; by default, threads of the checker's own.
        """
        limits = limits or Limits()
        failing, self._turns = limits.back_off, limits.turns
        self._usual_cost = usual_cost
        self._nobody: dict[Cost, str] = {}
        self._secret = os.urandom(32)
        self._right: _Recent[bytes, bool] = _Recent(limits.right_pairs, limits.right_seconds, clock)
        self._failing_logins = _Failing(failing, failing.failures, clock)
        self._failing_addresses = _Failing(failing, failing.failures_of_address, clock)
        self._queue = _Queue(self._turns)
        self._attempts: dict[tuple[bytes, bytes], _Attempt] = {}
        self._own_threads = ThreadPoolExecutor(self._turns.running, "argon2")
        self._threads = executor or self._own_threads
        self._closed = False

    async def close(self) -> None:
        """Turn away whoever waits, and let what runs come to its end unheard."""
        self._closed = True
        for attempt in self._queue.all():
            self._queue.drop(attempt)
            self._turn_away(attempt)
        self._own_threads.shutdown(wait=False, cancel_futures=True)

    async def check(
        self,
        entry: Entry | None,
        subdomain: str | None,
        login: str,
        password: Secret,
        address: str,
    ) -> bool:
        """Return whether `password` is that of `entry`, which the book has for the login.

        Args:
            entry: None when the book has none: the answer is False, and takes as long.
            subdomain: of the host that was called; None when that is none.
            login: as the call has it.
            password: as the call has it.
            address: whose call it is, as an IP address; attempts are counted by it. Of IPv6, the
                64 bits that name a network count: whoever has one address there has them all.

        Raises:
            Overloaded: the password was not looked at.
        """
        octets = _octets(password)
        hashed = "" if entry is None else entry.password_hash.reveal()
        place = "" if subdomain is None else subdomain_key(subdomain)
        key = self._digest(place, login_key(login), octets, hashed)
        if entry is not None and self._right.get(key, touch=True):
            return True
        network = self._digest(_network(address))
        failing = self._digest(login_key(login), network)
        if self._refused(network, failing):
            return False
        attempt = self._attempts.get((key, network))
        if attempt is None:
            attempt = _Attempt(
                key=key,
                address=network,
                login=failing,
                encoded=hashed or self._stand_in(),
                octets=octets,
                known=entry is not None,
                outcome=asyncio.get_running_loop().create_future(),
            )
            self._enter(attempt)
        return await self._outcome(attempt)

    def _digest(self, *parts: str | bytes) -> bytes:
        """Return a digest that tells nothing without this process; no two lists share one."""
        message = bytearray()
        for part in parts:
            octets = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            message += len(octets).to_bytes(8, "big") + octets
        return hmac.digest(self._secret, message, "sha256")

    def _stand_in(self) -> str:
        cost = self._usual_cost() or COST
        if cost not in self._nobody:
            self._nobody = {cost: _nobody(cost)}
        return self._nobody[cost]

    def _refused(self, address: bytes, login: bytes) -> bool:
        return self._failing_logins.refused(login) or self._failing_addresses.refused(address)

    def _enter(self, attempt: _Attempt) -> None:
        if self._closed:
            raise self._turns.exceeded()
        given_way = self._queue.put(attempt)
        if given_way is not None:
            self._turn_away(given_way)
        self._attempts[attempt.key, attempt.address] = attempt
        self._start()

    async def _outcome(self, attempt: _Attempt) -> bool:
        attempt.waiting += 1
        try:
            return await asyncio.shield(attempt.outcome)
        finally:
            attempt.waiting -= 1
            if not attempt.waiting and not attempt.started and not attempt.outcome.done():
                # Everybody who asked has left: nobody needs to compute it.
                self._queue.drop(attempt)
                self._forget(attempt)
                attempt.outcome.cancel()

    def _start(self) -> None:
        """Let run what may."""
        while not self._closed and (attempt := self._queue.start()) is not None:
            attempt.started = True
            if self._refused(attempt.address, attempt.login):
                # Others that it waited for have failed meanwhile.
                self._queue.end(attempt)
                self._answer(attempt, right=False)
                continue
            try:
                running = asyncio.get_running_loop().run_in_executor(
                    self._threads, _matches, attempt.encoded, attempt.octets
                )
            except RuntimeError:  # no thread is to be had
                self._queue.end(attempt)
                self._turn_away(attempt)
            else:
                running.add_done_callback(partial(self._ended, attempt))

    def _ended(self, attempt: _Attempt, done: asyncio.Future[bool]) -> None:
        self._queue.end(attempt)
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or isinstance(error, Argon2Error | MemoryError):
            # A hash from the book can be computed: what fails is to get the memory or the threads.
            self._turn_away(attempt)
        elif error is not None:
            self._fail(attempt, error)
        else:
            self._judge(attempt, right=done.result() and attempt.known)
        self._start()

    def _judge(self, attempt: _Attempt, *, right: bool) -> None:
        if right:
            self._right.put(attempt.key, True)
            self._failing_logins.succeeded(attempt.login)
        elif not self._failing_logins.failed(attempt.login):
            self._failing_addresses.failed(attempt.address)
        self._answer(attempt, right=right)

    def _turn_away(self, attempt: _Attempt) -> None:
        self._fail(attempt, self._turns.exceeded())

    def _fail(self, attempt: _Attempt, error: BaseException) -> None:
        self._forget(attempt)
        attempt.outcome.set_exception(error)
        if not attempt.waiting:
            # Not to be reported as one that nobody has looked at.
            attempt.outcome.exception()

    def _answer(self, attempt: _Attempt, *, right: bool) -> None:
        self._forget(attempt)
        attempt.outcome.set_result(right)

    def _forget(self, attempt: _Attempt) -> None:
        """Have the next one who asks the same begin anew."""
        del self._attempts[attempt.key, attempt.address]


def _network(address: str) -> str:
    """Return what to count attempts by: an IPv4 address, or the /64 network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))
