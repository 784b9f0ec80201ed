"""The User-Agent as a log may have it, and the family of clients that it tells of."""

import re
from functools import lru_cache
from typing import NamedTuple

from bridge.identity.masking import without_addresses, without_tokens

_LENGTH = 200
"""Characters of a User-Agent that are logged."""

_WORTH_KEEPING = 300
"""Characters of a User-Agent: what is longer is a made-up one, and not remembered."""

_FAMILY_LENGTH = 40

_PRODUCT = re.compile(r"[A-Za-z][A-Za-z_.+!-]{0,60}(?: [A-Za-z]{2,30})*")
"""The name of a product (RFC 9110, section 10.1.5), without digits: in them, a version or something
secret begins. Many write blanks in it."""

_COMPATIBLE = re.compile(r"Mozilla/[0-9.]+ \((?:compatible; ?)([^;)]*)")
"""How clients of the time dressed up as browsers (`Mozilla/5.0 (compatible; …)`)."""

_BROWSERS = re.compile(r"\b(Edg|OPR|Firefox|MSIE|Trident|Chrome|Safari)[/ ]")
"""Of a User-Agent that begins as a browser's, what tells which; the more special ones first."""


class Agent(NamedTuple):
    """What a log tells of a User-Agent."""

    user_agent: str | None
    """One line of at most 200 characters, without e-mail addresses and tokens of v2."""
    family: str | None
    """The first product without its version; None: it names none."""


def agent_of(user_agent: str | None) -> Agent:
    """Return what a log may know of a User-Agent, which a client may have made up."""
    if not user_agent:
        return _NOBODY
    return _agent_of(user_agent) if len(user_agent) > _WORTH_KEEPING else _kept(user_agent)


_NOBODY = Agent(None, None)


def _agent_of(user_agent: str) -> Agent:
    # v2's etiquette made a habit of naming a contact there. Cut it later: without its `@`, the
    # beginning of an address would be none.
    told = without_tokens(without_addresses(user_agent))[:_LENGTH]
    told = "".join(each if each.isprintable() else "\ufffd" for each in told)
    return Agent(told, _family(told))


_kept = lru_cache(maxsize=1024)(_agent_of)


def _family(told: str) -> str | None:
    if told.startswith("Mozilla/"):
        if compatible := _COMPATIBLE.match(told):
            told = compatible[1]
        elif browser := _BROWSERS.search(told):
            return browser[1]
    found = _PRODUCT.match(told)
    return found[0][:_FAMILY_LENGTH].rstrip(" .-_+") if found else None
