"""Whether a password is the right one: Argon2id off the event loop, and what keeps it from harm.

Pairs that were right are remembered, attempts that fail are slowed down, and the ones that have to
be computed wait in turn. Whose password it is, is looked up in `bridge.identity.book`.
"""

import asyncio
import base64
import hmac
import math
import os
import secrets
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from weakref import WeakValueDictionary

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, VerifyMismatchError
from argon2.low_level import Type, verify_secret
from cachetools import TTLCache

from bridge.identity.book import Cost, Entry, login_key, subdomain_key
from bridge.secret import Secret
from bridge.v1.errors import AttemptsPaused, Overloaded

PASSWORD_LIMIT = 1024
"""The most characters of a password. Combining marks take NFC the square of their number: so many,
a millisecond."""

COST = Cost(memory=64 * 1024, passes=3, lanes=4, salt_length=16, tag_length=32)
"""RFC 9106, section 4, the second recommended option, which is also argon2-cffi's default; a
verification holds that much memory while it runs."""


def hash_password(password: Secret, cost: Cost = COST) -> str:
    """Return the Argon2id hash of a password, in the form `$argon2id$v=19$…`.

    A password that is empty, or longer than `PASSWORD_LIMIT`, is a `ValueError`.
    """
    if len(password.reveal()) > PASSWORD_LIMIT:
        raise ValueError(f"a password must have at most {PASSWORD_LIMIT} characters")
    octets = _octets(password)
    if not octets:
        raise ValueError("a password must not be empty")
    lengths = cost.tag_length, cost.salt_length
    return PasswordHasher(cost.passes, cost.memory, cost.lanes, *lengths, type=Type.ID).hash(octets)


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


@lru_cache(maxsize=1)
def _nobody(cost: Cost) -> str:
    """Return a hash that no password is known to have, and that costs as much as any other."""
    salt, tag = (
        base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()
        for length in (cost.salt_length, cost.tag_length)
    )
    return f"$argon2id$v=19$m={cost.memory},t={cost.passes},p={cost.lanes}${salt}${tag}"


FIRST_PAUSE = 1.0
"""Seconds; each further failure doubles it."""

LONGEST_PAUSE = 60.0
"""Seconds."""

RETRY_AFTER = 2
"""Seconds that whoever is turned away should wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a checker computes, refuses and remembers."""

    running: int = 2
    """Verifications at once, with 64 MiB each. An address may have all of these but one, if there
    are more."""
    waiting: int = 64
    """Verifications that wait for that, altogether."""
    of_address: int = 16
    """Running and waiting, of one address."""
    failures: int = 5
    """As many failures of one login from one address bring the first pause."""
    failures_of_address: int = 25
    """As many from one address, whatever the logins. Of one login, only those count here that come
    before its own pauses: one job with an old password does not shut out its neighbours."""
    remembered: int = 10_000
    """The most right pairs, the most logins and the most addresses that are kept in mind."""
    seconds: float = 900.0
    """How long a right pair is kept in mind after its last use, and failures after the last one."""


class _Right:
    """The pairs that were right, who came last at the end; each for a while after its last use.

    There is no end to that for who keeps coming: a pair counts for nothing once the book has
    another hash, and whoever has to be looked at again can be held up by others' failures.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._used: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._used)

    def has(self, pair: bytes) -> bool:
        """Tell whether a pair was right of late, and remember that it was used."""
        used = self._used.pop(pair, None)
        now = self._clock()
        if used is None or now - used >= self._limits.seconds:
            return False
        self._used[pair] = now
        return True

    def add(self, pair: bytes) -> None:
        """Remember a pair, and forget those that are too old or too many."""
        now = self._clock()
        self._used.pop(pair, None)
        self._used[pair] = now
        while (
            len(self._used) > self._limits.remembered
            or now - self._used[next(iter(self._used))] >= self._limits.seconds
        ):
            del self._used[next(iter(self._used))]


class _Failing(TTLCache[bytes, tuple[int, float]]):
    """By some key, how many attempts have failed, and when on the clock the next is looked at."""

    def __init__(self, threshold: int, limits: Limits, clock: Callable[[], float]) -> None:
        super().__init__(limits.remembered, limits.seconds, clock)
        self._threshold = threshold

    def __missing__(self, _key: bytes) -> tuple[int, float]:
        return 0, 0.0

    def left(self, key: bytes) -> float:
        """Return the seconds until an attempt is looked at again; 0 or less when one is."""
        return self[key][1] - self.timer()

    def failed(self, key: bytes) -> bool:
        """Count a failure, and return whether there had been enough of them already."""
        count = self[key][0] + 1
        self[key] = count, self.timer() + _pause(count - self._threshold)
        return count > self._threshold


def _pause(more: int) -> float:
    """Return how many seconds to refuse for, after so many failures more than are let pass."""
    # An exponent beyond this would only overflow.
    return 0.0 if more < 0 else min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(more, 64))


@dataclass(eq=False, slots=True)
class _Attempt:
    """One verification, and how many wait for its outcome."""

    outcome: asyncio.Task[bool] = field(init=False)
    """Cancelled when the attempt is turned away."""
    asking: int = 0
    running: bool = False


def _overloaded() -> Overloaded:
    return Overloaded("Too many logins are being checked: try again soon.", RETRY_AFTER)


class PasswordChecker:
    """Tells right passwords from wrong ones. Belongs to one event loop.

    Right pairs are remembered as long as they are used, under a keyed digest that takes in the hash
    they were checked against: once the book has another hash, or none, they count for nothing. A
    wrong password, an unknown login and an unknown subdomain go the same way and take the same
    time, provided that the book's hashes have one cost: where they differ, nobody's is the usual
    one.
    """

    def __init__(
        self,
        usual_cost: Callable[[], Cost | None] = lambda: COST,
        limits: Limits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        executor: Executor | None = None,
    ) -> None:
        """Make a checker.

        Args:
            usual_cost: answers what the book's hashes cost now: `lambda: keeper.book.usual_cost`.
            limits: by default, those of `Limits`.
            clock: answers seconds that never go back.
            executor: runs the verifications; by default, threads of the checker's own.
        """
        self._limits = limits = limits or Limits()
        self._usual_cost = usual_cost
        self._secret = os.urandom(32)
        self._right = _Right(limits, clock)
        self._failing_logins = _Failing(limits.failures, limits, clock)
        self._failing_addresses = _Failing(limits.failures_of_address, limits, clock)
        self._places = asyncio.Semaphore(limits.running)
        self._lines: WeakValueDictionary[bytes, asyncio.Semaphore] = WeakValueDictionary()
        """Of each network, as many stand in line for a place as may have one: networks take turns,
        so that none waits for all of another's."""
        self._attempts: dict[tuple[bytes, bytes], _Attempt] = {}
        """By what identifies the pair, and the network that it comes from."""
        self._closed = False
        self._threads = executor or ThreadPoolExecutor(limits.running, "argon2")

    async def close(self) -> None:
        """Turn away whoever waits, and let what runs come to its end unheard."""
        self._closed = True
        for key, attempt in [*self._attempts.items()]:
            if not attempt.running:
                self._drop(key)
        self._threads.shutdown(wait=False)

    async def check(
        self, entry: Entry | None, subdomain: str | None, login: str, password: Secret, network: str
    ) -> bool:
        """Return whether `password` is that of `entry`, which the book has for the login.

        Args:
            entry: None when the book has none: the answer is False, and takes as long.
            subdomain: of the host that was called; None when that is none.
            login: as the call has it, like the password.
            network: whose call it is, as `bridge.identity.hosts.network_of` counts it.

        Raises:
            Overloaded: the password was not looked at; `AttemptsPaused`: for others have failed.
        """
        if len(password.reveal()) > PASSWORD_LIMIT:
            return False  # whoever's it would be
        octets = _octets(password)
        encoded = None if entry is None else entry.password_hash.reveal()
        known_as = login_key(login)
        pair = self._digest(subdomain_key(subdomain or ""), known_as, octets, encoded or "")
        if self._right.has(pair):
            return True
        whence = self._digest(network)
        failing = self._digest(known_as, whence)
        self._require_no_pause(failing, whence)
        key = (pair, whence)
        if key not in self._attempts:
            self._make_room(whence)
            attempt = self._attempts[key] = _Attempt()
            attempt.outcome = asyncio.create_task(self._verify(key, failing, encoded, octets))
            # Have an error not reported as one that nobody has looked at: everybody may have left.
            attempt.outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        attempt = self._attempts[key]
        attempt.asking += 1
        try:
            await asyncio.wait([attempt.outcome])
        finally:
            attempt.asking -= 1
            waits = self._attempts.get(key) is attempt and not attempt.running
            if waits and not attempt.asking:  # everybody who asked has left
                self._drop(key)
        if attempt.outcome.cancelled():
            raise _overloaded()
        return attempt.outcome.result()

    def _digest(self, *parts: str | bytes) -> bytes:
        """Return a digest that tells nothing without this process; no two lists share one."""
        return hmac.digest(self._secret, ascii(parts).encode(), "sha256")

    def _require_no_pause(self, login: bytes, network: bytes) -> None:
        """Raise `AttemptsPaused` while so many have failed that none is looked at.

        It does not say that a password is wrong: that it cannot know, and who shares an address
        with somebody that guesses would take it for true.
        """
        left = max(self._failing_logins.left(login), self._failing_addresses.left(network))
        if left > 0:
            raise AttemptsPaused(
                "Too many logins have failed: this one was not looked at. Try again later.",
                retry_after=math.ceil(left),
            )

    def _make_room(self, network: bytes) -> None:
        """See to it that an attempt more may wait.

        When too many do, the last one of the network that has most of them has to give way. With no
        such network but its own, or if that has enough already, this attempt is `Overloaded`.
        """
        own = sum(each == network for _, each in self._attempts)
        if self._closed or own >= self._limits.of_address:
            raise _overloaded()
        if len(self._attempts) >= self._limits.running + self._limits.waiting:
            waiting = [key for key, each in self._attempts.items() if not each.running]
            counts = Counter(each for _, each in waiting)
            longest = max(counts, key=lambda each: counts[each])
            if counts[longest] <= counts[network] + 1:
                raise _overloaded()
            self._drop([key for key in waiting if key[1] == longest][-1])

    def _drop(self, key: tuple[bytes, bytes]) -> None:
        self._attempts.pop(key).outcome.cancel()

    async def _verify(
        self, key: tuple[bytes, bytes], failing: bytes, encoded: str | None, octets: bytes
    ) -> bool:
        """Compute a hash in turn, and remember what came of it; `encoded` is None for nobody's."""
        pair, network = key
        of_network = asyncio.Semaphore(max(1, self._limits.running - 1))
        async with self._lines.setdefault(network, of_network), self._places:
            self._attempts[key].running = True
            try:
                self._require_no_pause(failing, network)  # others have failed meanwhile
                stand_in = _nobody(self._usual_cost() or COST)
                right = await self._compute(encoded or stand_in, octets) and encoded is not None
            finally:
                del self._attempts[key]
            if right:
                self._right.add(pair)
                with suppress(KeyError):
                    del self._failing_logins[failing]
            elif not self._failing_logins.failed(failing):
                self._failing_addresses.failed(network)
            return right

    async def _compute(self, encoded: str, octets: bytes) -> bool:
        loop = asyncio.get_running_loop()
        try:
            computing = loop.run_in_executor(self._threads, _matches, encoded, octets)
        except RuntimeError:  # no thread is to be had
            raise _overloaded() from None
        try:
            return await computing
        except (Argon2Error, MemoryError):
            # A hash from the book can be computed: what fails is to get the memory or the threads.
            raise _overloaded() from None
