"""How long named functions ran: wrapped from outside, so that no code of the bridge knows."""

import functools
import gc
import inspect
import types
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from time import thread_time
from typing import Any, NamedTuple
from unittest.mock import patch


class Step(NamedTuple):
    """A function to be watched: the name to show, and where it is looked up when it is called."""

    name: str
    owner: Any
    attribute: str


class Spans:
    """The CPU seconds of this thread that steps took, by name; steps must not nest."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.latest = ""
        """The step that ended last."""
        self._gc_started = 0.0

    @contextmanager
    def watching(self, steps: Iterable[Step]) -> Iterator[None]:
        """Wrap `steps`, and watch the garbage collector."""
        patches = [
            patch.object(
                step.owner,
                step.attribute,
                self._timed(step.name, getattr(step.owner, step.attribute)),
            )
            for step in steps
        ]
        for each in patches:
            each.start()
        gc.callbacks.append(self._collecting)
        try:
            yield
        finally:
            gc.callbacks.remove(self._collecting)
            for each in patches:
                each.stop()

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            started = thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self._ran(name, started)

        @functools.wraps(function)
        async def timed_async(*arguments: Any, **options: Any) -> Any:
            return await self._timed_turns(name, function(*arguments, **options))

        return timed_async if inspect.iscoroutinefunction(function) else timed

    @types.coroutine
    def _timed_turns(
        self, name: str, coroutine: Coroutine[Any, Any, Any]
    ) -> Generator[Any, Any, Any]:
        """Run `coroutine`, timing it only while it does not wait."""
        resume: Callable[[], Any] = functools.partial(coroutine.send, None)
        while True:
            started = thread_time()
            try:
                awaited = resume()
            except StopIteration as stop:
                return stop.value
            finally:
                self._ran(name, started)
            try:
                resume = functools.partial(coroutine.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
                resume = functools.partial(coroutine.throw, error)

    def _ran(self, name: str, started: float) -> None:
        self.seconds[name] += thread_time() - started
        self.latest = name

    def _collecting(self, phase: str, _details: dict[str, int]) -> None:
        if phase == "start":
            self._gc_started = thread_time()
        else:
            self.seconds["(of which gc)"] += thread_time() - self._gc_started
