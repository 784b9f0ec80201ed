"""How many steps a backtracking engine takes over a text, and texts that make it take many.

Steps are counted by a matcher of our own, which reads what `re` parses and backtracks as `re` does:
of `re` itself only the time could be measured. `tests/test_hostile_texts.py` holds it to `re`.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

# The standard library's own; they are typed nowhere.
codes: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

AnyPattern = re.Pattern[str] | re.Pattern[bytes]

_Go = Callable[[int], int | None]
"""From a position on: where the match ends, or None."""
_Match = Callable[[int, _Go], int | None]
_Test = Callable[[str], bool]

_CATEGORIES: dict[Any, _Test] = {
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_WORD: lambda character: character.isalnum() or character == "_",
    codes.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    codes.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    codes.CATEGORY_NOT_WORD: lambda character: not (character.isalnum() or character == "_"),
}
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_SINGLE = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)


def _tests(code: Any, value: Any, flags: int) -> _Test:
    """Return what one character has to pass."""
    if code is codes.ANY:
        return lambda character: bool(flags & re.DOTALL) or character != "\n"
    if code in (codes.LITERAL, codes.NOT_LITERAL):
        wanted = chr(value).lower() if flags & re.IGNORECASE else chr(value)
        same = str.lower if flags & re.IGNORECASE else str
        return lambda character: (same(character) == wanted) == (code is codes.LITERAL)
    members = [member for member in value if member[0] is not codes.NEGATE]
    is_negated = len(members) < len(value)

    def is_member(character: str) -> bool:
        for kind, what in members:
            if kind is codes.CATEGORY:
                found = _CATEGORIES[what](character)
            elif kind is codes.RANGE:
                found = what[0] <= ord(character) <= what[1]
            else:
                found = ord(character) == what
            if found:
                return True
        return False

    def passes(character: str) -> bool:
        both = {character, character.lower(), character.upper()}
        spellings = both if flags & re.IGNORECASE else {character}
        return any(len(each) == 1 and is_member(each) for each in spellings) != is_negated

    return passes


class Engine:
    """A pattern as a matcher, and the `steps` that it has taken over its `text`."""

    text = ""
    """What is matched; bytes are ISO-8859-1."""
    steps = 0

    def __init__(self, pattern: AnyPattern) -> None:
        """Read a pattern."""
        source = pattern.pattern
        tree = parser.parse(
            source, pattern.flags & ~(re.UNICODE if isinstance(source, bytes) else 0)
        )
        self._match = self._sequence(list(tree), pattern.flags)
        self._groups: dict[int, str] = {}
        """What each group has matched last."""

    def run(self, use: str, text: str) -> Any:
        """Do what the method `use` does, over a text, and count its steps anew."""
        self.text, self.steps = text, 0
        return getattr(self, use)()

    def match(self, at: int = 0) -> int | None:
        """Return where a match that begins `at` ends, if there is one."""
        return self._match(at, lambda end: end)

    def fullmatch(self) -> int | None:
        """Do the same of one that takes all of the text."""
        return self._match(0, lambda end: end if end == len(self.text) else None)

    def search(self, at: int = 0) -> tuple[int, int] | None:
        """Return where the first match begins and ends, if there is one."""
        for start in range(at, len(self.text) + 1):
            self.steps += 1
            if (end := self.match(start)) is not None:
                return start, end
        return None

    def finditer(self) -> list[tuple[int, int]]:
        """Return where all matches begin and end, one after the other."""
        found: list[tuple[int, int]] = []
        at = 0
        while (span := self.search(at)) is not None:
            found.append(span)
            at = span[1] + (span[0] == span[1])
            if at > len(self.text):
                break
        return found

    def _sequence(self, items: list[Any], flags: int) -> _Match:
        matches = [self._item(code, value, flags) for code, value in items]

        def match(at: int, go: _Go, index: int = 0) -> int | None:
            if index == len(matches):
                return go(at)
            return matches[index](at, lambda end: match(end, go, index + 1))

        return match

    def _item(self, code: Any, value: Any, flags: int) -> _Match:  # noqa: PLR0911 - one a kind
        if code in _SINGLE:
            return self._single(_tests(code, value, flags))
        if code in _REPEATS:
            least, most, inner = value
            return self._repeat(code, least, most, inner, flags)
        if code is codes.SUBPATTERN:
            number, more, less, inner = value
            return self._group(number, self._sequence(list(inner), (flags | more) & ~less))
        if code is codes.GROUPREF:
            return self._reference(value, flags)
        if code is codes.BRANCH:
            return self._branch([self._sequence(list(each), flags) for each in value[1]])
        if code is codes.ATOMIC_GROUP:
            return self._atomic(self._sequence(list(value), flags))
        if code in (codes.ASSERT, codes.ASSERT_NOT):
            direction, inner = value
            return self._look(
                self._sequence(list(inner), flags),
                back=0 if direction > 0 else inner.getwidth()[0],
                wanted=code is codes.ASSERT,
            )
        assert code is codes.AT, code
        return self._at(value, flags)

    def _single(self, passes: _Test) -> _Match:
        def match(at: int, go: _Go) -> int | None:
            self.steps += 1
            return go(at + 1) if at < len(self.text) and passes(self.text[at]) else None

        return match

    def _group(self, number: int | None, inner: _Match) -> _Match:
        if number is None:
            return inner

        def match(at: int, go: _Go) -> int | None:
            before = self._groups.get(number, "")

            def ended(end: int) -> int | None:
                self._groups[number] = self.text[at:end]
                if (found := go(end)) is None:
                    self._groups[number] = before
                return found

            return inner(at, ended)

        return match

    def _reference(self, number: int, flags: int) -> _Match:
        assert not flags & re.IGNORECASE

        def match(at: int, go: _Go) -> int | None:
            said = self._groups[number]
            self.steps += 1 + len(said)
            return go(at + len(said)) if self.text.startswith(said, at) else None

        return match

    def _branch(self, ways: list[_Match]) -> _Match:
        def match(at: int, go: _Go) -> int | None:
            for way in ways:
                self.steps += 1
                if (end := way(at, go)) is not None:
                    return end
            return None

        return match

    def _atomic(self, inner: _Match) -> _Match:
        def match(at: int, go: _Go) -> int | None:
            end = inner(at, lambda end: end)
            return None if end is None else go(end)

        return match

    def _look(self, inner: _Match, *, back: int, wanted: bool) -> _Match:
        def match(at: int, go: _Go) -> int | None:
            self.steps += 1
            found = at >= back and inner(at - back, lambda end: end) is not None
            return go(at) if found == wanted else None

        return match

    def _at(self, where: Any, flags: int) -> _Match:
        is_word = _CATEGORIES[codes.CATEGORY_WORD]

        def match(at: int, go: _Go) -> int | None:
            self.steps += 1
            text = self.text
            if where is codes.AT_BEGINNING_STRING:
                holds = at == 0
            elif where is codes.AT_BEGINNING:
                holds = at == 0 or bool(flags & re.MULTILINE and text[at - 1] == "\n")
            elif where is codes.AT_END_STRING:
                holds = at == len(text)
            elif where is codes.AT_BOUNDARY:
                holds = is_word(text[at - 1 : at]) != is_word(text[at : at + 1])
            else:
                assert where is codes.AT_END, where
                holds = at == len(text) or text[at:] == "\n"
            return go(at) if holds else None

        return match

    def _repeat(self, code: Any, least: int, most: int, inner: Any, flags: int) -> _Match:
        if len(inner) == 1 and inner[0][0] in _SINGLE and code is not codes.MIN_REPEAT:
            passes = _tests(inner[0][0], inner[0][1], flags)
            return self._run(passes, least, most, is_possessive=code is codes.POSSESSIVE_REPEAT)
        once = self._sequence(list(inner), flags)
        if code is codes.POSSESSIVE_REPEAT:
            return self._possessive(once, least, most)
        is_lazy = code is codes.MIN_REPEAT

        def match(at: int, go: _Go, count: int = 0) -> int | None:
            self.steps += 1

            def again(end: int) -> int | None:
                return None if end == at and count >= least else match(end, go, count + 1)

            if is_lazy and count >= least and (end := go(at)) is not None:
                return end
            if count < most and (end := once(at, again)) is not None:
                return end
            return None if is_lazy or count < least else go(at)

        return match

    def _run(self, passes: _Test, least: int, most: int, *, is_possessive: bool) -> _Match:
        """Repeat a single character, without a frame for each."""

        def match(at: int, go: _Go) -> int | None:
            end = at
            while end < len(self.text) and end - at < most and passes(self.text[end]):
                end += 1
            self.steps += end - at + 1
            while end - at >= least:
                self.steps += 1
                if (found := go(end)) is not None or is_possessive:
                    return found
                end -= 1
            return None

        return match

    def _possessive(self, once: _Match, least: int, most: int) -> _Match:
        def match(at: int, go: _Go) -> int | None:
            count = 0
            while count < most:
                self.steps += 1
                end = once(at, lambda end: end)
                if end is None:
                    break
                count += 1
                if end == at:
                    break
                at = end
            return go(at) if count >= least else None

        return match


# Texts.

_LIKELY = 'a0 -_.@<>"\\/=;,:\nZé\x01'


class Hostile(NamedTuple):
    """A text as long as one likes."""

    before: str
    unit: str
    after: str

    def text(self, length: int) -> str:
        """Return one in which as many units stand as fit in `length`, at least four."""
        return self.before + self.unit * max(4, length // len(self.unit)) + self.after


def hostile_texts(pattern: AnyPattern) -> set[Hostile]:
    """Return texts that come near to a match, each with another repeat made long.

    Those are the ones that make an engine go back: the beginning of a match, what repeats, and an
    end that does not fit. Also the beginning itself, again and again.
    """
    items = list(parser.parse(pattern.pattern, pattern.flags))
    return {
        Hostile(start, each, end)
        for before, unit, after in _pumps(items, pattern.flags)
        for start, each in ((before, unit), ("", before + unit))
        if each
        for end in ("", "\x01", after + "\x01")
    }


def _pumps(items: list[Any], flags: int) -> Iterator[tuple[str, str, str]]:
    """Yield, of each repeat, what comes before it, once what repeats, and what comes after it."""
    for index, (code, value) in enumerate(items):
        before = _sample(items[:index], flags)
        after = _sample(items[index + 1 :], flags)
        for inner in _inside(code, value):
            if code in _REPEATS:
                yield from ((before, unit, after) for unit in _samples(inner, flags))
            for near, unit, rest in _pumps(inner, flags):
                yield before + near, unit, rest + after
                if code in _REPEATS:
                    yield before, near + unit + rest, after


def _inside(code: Any, value: Any) -> list[list[Any]]:
    if code in _REPEATS:
        return [list(value[2])]
    if code is codes.SUBPATTERN:
        return [list(value[3])]
    if code is codes.BRANCH:
        return [list(each) for each in value[1]]
    if code is codes.ATOMIC_GROUP:
        return [list(value)]
    return [list(value[1])] if code in (codes.ASSERT, codes.ASSERT_NOT) else []


def _samples(items: list[Any], flags: int) -> Iterator[str]:
    """Yield what these match: several single characters, or one text for each alternative."""
    if len(items) == 1 and items[0][0] in _SINGLE:
        passes = _tests(items[0][0], items[0][1], flags)
        yield from [each for each in _LIKELY if passes(each)][:3] or [_sample(items, flags)]
    elif len(items) == 1 and items[0][0] is codes.BRANCH:
        yield from (_sample(list(each), flags) for each in items[0][1][1])
    else:
        yield _sample(items, flags)


def _sample(items: list[Any], flags: int) -> str:
    """Return a text that these match, but for what looks ahead or back; the shortest repeats."""
    text = ""
    for code, value in items:
        if code in _SINGLE:
            passes = _tests(code, value, flags)
            candidates = chain(_LIKELY, map(chr, range(0x2100)))
            text += next(each for each in candidates if passes(each))
        elif code in _REPEATS:
            text += _sample(list(value[2]), flags) * max(value[0], 0 if value[0] else 1)
        elif code not in (codes.ASSERT, codes.ASSERT_NOT):
            text += "".join(_sample(inner, flags) for inner in _inside(code, value)[:1])
    return text
