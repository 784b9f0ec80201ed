"""Text on its way to a log, without the e-mail addresses in it."""

import re

_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+|"')
"""What stands between blanks, where blanks in quotes are part of a word: `"jane doe"@doe.org`."""

_AT = re.compile(r"@|%40")


def without_addresses(text: str) -> str:
    """Replace every word that holds an `@`, percent-encoded or not, by an ellipsis."""
    return _WORD.sub(lambda word: "…" if _AT.search(word[0]) else word[0], text)
