"""What can, and above all what cannot, be done with a secret."""

import copy
import json
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.credentials import Basic, Bearer
from bridge.secret import Secret

VALUE = "s3cret-värde"

ANY_TEXT = st.text(alphabet=st.characters())

SHOWN: dict[str, Callable[[Any], object]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "format-string": lambda value: f"{value} {value!r:>40} {value!s:<40} {value!a}",
    "percent": lambda value: "%s %r" % (value, value),  # noqa: UP031 - as logging does it
    "in-a-list": lambda value: str([value, (value,), {"of": value}]),
    "traceback": lambda value: "".join(traceback.format_exception(ValueError(value))),
    "dir": lambda value: " ".join(dir(value)),
    "json-default": lambda value: json.dumps({"of": value}, default=repr),
    "msgspec-hook": lambda value: msgspec.json.encode({"of": value}, enc_hook=repr),
    "structlog-json": lambda value: structlog.processors.JSONRenderer()(None, "", {"of": value}),
    "structlog-console": lambda value: structlog.dev.ConsoleRenderer()(
        None, "", {"event": "told", "of": value}
    ),
}

REFUSED: dict[str, Callable[[Any], object]] = {
    "format-with-a-width": lambda value: format(value, ">40"),
    "pickle": pickle.dumps,
    "old-pickle": lambda value: pickle.dumps(value, protocol=0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "state": lambda value: value.__getstate__(),
    "reduce": lambda value: value.__reduce__(),
    "json": json.dumps,
    "msgspec-json": msgspec.json.encode,
    "msgspec-builtins": msgspec.to_builtins,
    "vars": vars,
    "length": len,
    "truth": bool,
    "iteration": list,
    "membership": lambda value: "s" in value,
    "hash": hash,
    "bytes": bytes,
    "int": int,
    "concatenation": lambda value: "" + value,
    "join": lambda value: "".join([value]),
    "order": lambda value: value < Secret("t"),
    "index": lambda value: value[0],
}


@dataclass
class Holder:
    """Whatever else may have a secret in it."""

    kept: Secret


HOLDERS = [
    pytest.param(Secret(VALUE), id="secret"),
    pytest.param(Basic("jane@doe.org", Secret(VALUE)), id="basic"),
    pytest.param(Bearer(Secret(VALUE)), id="bearer"),
    pytest.param(Holder(Secret(VALUE)), id="any-dataclass"),
]


def test_whoever_asks_for_it_gets_it() -> None:
    assert Secret(VALUE).reveal() == VALUE


@pytest.mark.parametrize("how", SHOWN)
@pytest.mark.parametrize("holder", HOLDERS)
def test_no_way_of_printing_shows_it(how: str, holder: object) -> None:
    assert "s3cret" not in str(SHOWN[how](holder))


def test_it_prints_as_what_it_is() -> None:
    assert f"{Secret(VALUE)} {Secret('')!r}" == "Secret(…) Secret(…)"


@pytest.mark.parametrize("how", REFUSED)
def test_anything_that_would_give_it_away_is_refused(how: str) -> None:
    with pytest.raises(TypeError) as raised:
        REFUSED[how](Secret(VALUE))

    assert "s3cret" not in str(raised.value)


class TestComparison:
    @given(ANY_TEXT, ANY_TEXT)
    def test_secrets_are_equal_when_their_values_are(self, one: str, other: str) -> None:
        assert Secret(one) == Secret(str(one))
        assert (Secret(one) == Secret(other)) == (one == other)
        assert (Secret(one) != Secret(other)) == (one != other)

    @pytest.mark.parametrize("text", [VALUE, VALUE.encode(), bytearray(VALUE.encode()), ""])
    def test_with_text_it_is_a_mistake(self, text: object) -> None:
        with pytest.raises(TypeError, match="compares with a Secret only"):
            _ = Secret(VALUE) == text
        with pytest.raises(TypeError, match="compares with a Secret only"):
            _ = text != Secret(VALUE)

    @pytest.mark.parametrize("other", [None, 1, object(), [VALUE]])
    def test_it_is_not_equal_to_anything_else(self, other: object) -> None:
        assert Secret(VALUE) != other

    def test_what_holds_equal_secrets_is_equal(self) -> None:
        assert Basic("jane", Secret("a")) == Basic("jane", Secret("a"))
        assert Basic("jane", Secret("a")) != Basic("jane", Secret("b"))
        assert Bearer(Secret("a")) == Bearer(Secret("a"))
        assert Holder(Secret("a")) == Holder(Secret("a"))
