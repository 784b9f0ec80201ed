"""From counts to the geometry of a chart: scales, ticks and stacked bars, as plain values.

How they look is written in the templates and the style sheet. Across, all is in percent, upwards in
pixels: a chart takes what width there is, and its texts keep their size on a phone. Libraries draw
into a box that is scaled as a whole, and style what they draw inline, which our policy forbids.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import ceil
from typing import NamedTuple

from bridge.record.log.times import DAY, moment

HEIGHT = 180
"""Pixels that the largest bar may have."""

_LABELS = 8
"""At most so many, about, are written below a chart."""


class Part(NamedTuple):
    """One series' share of a bar."""

    series: int
    y: float
    height: float


class Bar(NamedTuple):
    """All that happened in one period."""

    since: int
    name: str
    """The period, in words."""
    counts: tuple[int, ...]
    """Of each series."""
    title: str
    """The tooltip: the period, and what was counted, a line each."""
    x: float
    width: float
    parts: tuple[Part, ...]


class Tick(NamedTuple):
    """A line across, and what it stands for."""

    y: float
    label: str


class Label(NamedTuple):
    """What is written below a bar."""

    x: float
    text: str
    minor: bool
    """Whether it is left out where the chart is narrow."""


class Chart(NamedTuple):
    """A chart of stacked bars, `height` pixels high."""

    height: int
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    labels: tuple[Label, ...]


def ticks(most: int, about: int = 4) -> list[int]:
    """Return round numbers from 0 to the first that is not below `most`, some `about` steps."""
    rough = max(1, most) / about
    magnitude = 1
    while magnitude * 10 <= rough:
        magnitude *= 10
    step = next(each for each in (1, 2, 5, 10) if each * magnitude >= rough) * magnitude
    return [step * at for at in range(ceil(max(1, most) / step) + 1)]


def stacked(
    since: int, step: int, series: Sequence[tuple[str, Sequence[int]]], height: int = HEIGHT
) -> Chart:
    """Draw periods of `step` ms from `since` on; each of the `series` is a title and its counts."""
    columns = list(zip(*(values for _, values in series), strict=True)) if series else []
    scale = ticks(max(map(sum, columns), default=0))
    pixels = height / scale[-1]
    width = 100 / max(1, len(columns))
    bars = []
    for at, column in enumerate(columns):
        tops = list(accumulate(column))
        parts = tuple(
            Part(number, round(height - top * pixels, 2), round(value * pixels, 2))
            for number, (value, top) in enumerate(zip(column, tops, strict=True))
            if value
        )
        counted = [
            f"{title}: {value:,}" for (title, _), value in zip(series, column, strict=True) if value
        ]
        begin = since + at * step
        name = period(begin, step)
        title = "\n".join([name, *(counted or ["no calls"])])
        bars.append(Bar(begin, name, column, title, round(at * width, 4), round(width, 4), parts))
    return Chart(
        height,
        tuple(bars),
        tuple(Tick(round(height - value * pixels, 2), short(value)) for value in scale),
        _labels(since, step, len(columns)),
    )


def spark(values: Sequence[int], height: int = 24) -> str:
    """Return the path of a small chart: bars one unit wide, `height` units high at most."""
    most = max(values, default=0) or 1
    tall = {at: max(1.0, value * height / most) for at, value in enumerate(values) if value}
    return " ".join(f"M{at}.1 {height}v-{each:.1f}h.8v{each:.1f}z" for at, each in tall.items())


def period(since: int, step: int) -> str:
    """Name a period: a day, several, or hours of one; UTC."""
    begin = moment(since)
    if step >= DAY:
        day = f"{begin:%a} {begin.day} {begin:%b %Y}"
        return day if step == DAY else f"{step // DAY} days from {day}"
    return f"{begin.day} {begin:%b}, {begin:%H:%M} to {moment(since + step):%H:%M} UTC"


def short(value: int) -> str:
    """Spell a round number in little room: 1500000 is 1.5M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return str(value)


def _labels(since: int, step: int, count: int) -> tuple[Label, ...]:
    width = 100 / max(1, count)
    has_days = step * count > DAY
    begins = [since + at * step for at in range(count)]
    # What is labelled with a day begins with it.
    labelled = [each for each in begins if not has_days or each % DAY == 0 or step > DAY]
    every = max(1, ceil(len(labelled) / _LABELS))
    labels = []
    for number, begin in enumerate(labelled[::every]):
        at = moment(begin)
        text = f"{at.day} {at:%b}" if has_days else f"{at:%H:%M}"
        middle = ((begin - since) // step + 0.5) * width
        labels.append(Label(round(middle, 4), text, minor=number % 2 == 1))
    return tuple(labels)
