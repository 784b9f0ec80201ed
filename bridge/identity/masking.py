"""Text on its way to a log or a client, without the e-mail addresses or the token in it."""

import re

from bridge.secret import Secret

_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+|"')
"""What stands between blanks, where blanks in quotes are part of a word: `"jane doe"@doe.org`."""

_AT = re.compile(r".(?:@|%40).", re.DOTALL)


def without_addresses(text: str) -> str:
    """Replace every word with an `@` within, percent-encoded or not, by an ellipsis."""
    return _WORD.sub(lambda word: "…" if _AT.search(word[0]) else word[0], text)


_TOKEN = re.compile(r"[0-9]+\.[a-z]{2}\.[A-Za-z0-9_-]{12,}")
"""What a token of v2 looks like: `1234567.pt.…`, or `.at.` of OAuth2."""


def without_tokens(text: str) -> str:
    """Replace all that looks like a token of v2 by an ellipsis, whoever's it is."""
    return _TOKEN.sub("…", text) if "." in text else text


ORDINARY = 16
"""Characters: what is shorter can stand in ordinary text by chance. v2's tokens have about 100."""


def without_token(text: str, token: Secret) -> str:
    """Replace a token by an ellipsis; a short one only where it stands as a word of its own."""
    secret = re.escape(token.reveal())
    if len(token.reveal()) < ORDINARY:
        secret = rf"(?<![A-Za-z0-9]){secret}(?![A-Za-z0-9])"
    return re.sub(secret, "…", text)
