"""What each note on a translation means, in a sentence (schemas/README.md, "Notes")."""

from collections.abc import Mapping

from bridge.v1.notes import NoteCode
from bridge.v1.recipients import RecipientNote

MEANINGS: Mapping[str, str] = {
    NoteCode.ADDRESS_ESCAPED: "the document was repaired: addresses in angle brackets were escaped",
    NoteCode.ATTRIBUTE_IGNORED: "an attribute names no parameter, or one that an element gives",
    NoteCode.ATTRIBUTE_TAKEN: "an attribute of the root was taken as a parameter",
    NoteCode.BODY_DROPPED: "a body came with `re_open`, which takes none",
    NoteCode.CHARACTER_REPLACED: "text held characters that XML cannot; they became U+FFFD",
    NoteCode.COMPANY_WITHHELD: "v2 does not show the company to this user; the answer does without",
    NoteCode.CREDENTIALS_WRAPPED: "credentials stood in several lines",
    NoteCode.DOUBLE_SLASH: "the path began with two slashes",
    NoteCode.ELEMENT_DROPPED: "an element was understood, but is never passed on",
    NoteCode.ELEMENT_IGNORED: "an element cannot be set, or is unknown",
    NoteCode.FIELD_LOST: (
        "v2 had a value in a field that v1 has no element for; the note names v2's field"
    ),
    NoteCode.HASH_IN_ID: "an id was written with a `#`",
    NoteCode.LINE_FEEDS: "the lines of the head ended in LF alone",
    NoteCode.NULL_REPLACED: "v2 had no value for a boolean, which became false",
    NoteCode.OLD_TLS: (
        "the call came by TLS 1.0 or 1.1, or by a cipher that is as old, which the note names"
    ),
    NoteCode.PARAMETER_IGNORED: "a parameter of the query is none that the call knows, or is blank",
    NoteCode.RECIPIENT_DROPPED: (
        "v2 named a recipient without an address, or with one that no list can hold"
    ),
    NoteCode.SURROGATES_JOINED: (
        "the document was repaired: two references to half a character were joined"
    ),
    NoteCode.TEXT_IGNORED: "text stood between the elements",
    NoteCode.TRAILING_SLASH: "the path ended in a slash",
    NoteCode.XML_SUFFIX: "the path ended in `.xml`",
    RecipientNote.COMMA_IN_NAME: "a name with a comma but no quotes was put together",
    RecipientNote.COMMENT_DROPPED: "a comment beside a name was dropped",
    RecipientNote.CONTROL_REPLACED: "a control character in a name became a blank",
    RecipientNote.DUPLICATE_DROPPED: "an address was listed before",
    RecipientNote.GROUP_NAME_DROPPED: "the name of a group of recipients was dropped",
    RecipientNote.LINE_SEPARATOR: "a line break separated recipients",
    RecipientNote.MAILTO_DROPPED: "`mailto:` before an address was dropped",
    RecipientNote.QUOTES_DROPPED: "quotes around an address were dropped",
    RecipientNote.SEMICOLON_SEPARATOR: "a semicolon separated recipients",
    RecipientNote.UNUSUAL_ADDRESS: (
        "an address has dots or a length before the `@` that no RFC allows; it was taken"
    ),
}


def meaning_of(code: str) -> str:
    """Return what a code means; nothing of one that this version does not know."""
    return MEANINGS.get(code, "")
