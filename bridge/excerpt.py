"""The one place where words of others are cut: a sentence that quotes a request, v2 or a library
must not grow with what it quotes. What is quoted, and by which sentence, is not known here.
"""

LONGEST = 500
"""Characters of a sentence, wherever it goes: an answer, its `Hint`, or the log."""


def excerpt(text: str, length: int = LONGEST) -> str:
    """Return `text`, or its beginning and an ellipsis, in at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
