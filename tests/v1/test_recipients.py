"""Recipient lists: what is read, what is refused, what is written, and the law between them."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.v1 import recipients
from bridge.v1.recipients import (
    InvalidRecipient,
    Mailbox,
    RecipientList,
    RecipientNote,
    deduplicate,
    join,
    read,
    write,
)
from tests.support.addresses import is_mailable, is_valid

JANE = Mailbox("jane@doe.org", "Jane Doe")
BOB = Mailbox("bob@doe.org")


def mailboxes(text: str) -> list[tuple[str, str | None]]:
    return [(mailbox.address, mailbox.name) for mailbox in read(text).mailboxes]


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        pytest.param("jane@doe.org", "jane@doe.org", None, id="bare address"),
        pytest.param("<jane@doe.org>", "jane@doe.org", None, id="address in brackets"),
        pytest.param("< jane@doe.org >", "jane@doe.org", None, id="blanks in the brackets"),
        pytest.param("Jane Doe <jane@doe.org>", "jane@doe.org", "Jane Doe", id="name"),
        pytest.param("Jane Doe<jane@doe.org>", "jane@doe.org", "Jane Doe", id="no blank"),
        pytest.param(" Jane \t Doe\r\n <jane@doe.org>\n", "jane@doe.org", "Jane Doe", id="folded"),
        pytest.param("\xa0jane@doe.org\xa0", "jane@doe.org", None, id="no-break spaces around"),
        pytest.param('"Doe, Jane" <jane@doe.org>', "jane@doe.org", "Doe, Jane", id="quoted name"),
        pytest.param('"J \\"D\\" \\\\" <a@b.org>', "a@b.org", 'J "D" \\', id="quoted pairs"),
        pytest.param('"  J  D " <a@b.org>', "a@b.org", "  J  D ", id="blanks within quotes"),
        pytest.param('"J\r\n D" <a@b.org>', "a@b.org", "J D", id="folded within quotes"),
        pytest.param('"" <a@b.org>', "a@b.org", None, id="empty quotes"),
        pytest.param('Jane "JD" Doe <a@b.org>', "a@b.org", "Jane JD Doe", id="quotes in a name"),
        pytest.param("'Jane' <a@b.org>", "a@b.org", "'Jane'", id="apostrophes are text"),
        pytest.param("“Jane” <a@b.org>", "a@b.org", "“Jane”", id="curly quotes are text"),
        pytest.param("ACME\\jane <a@b.org>", "a@b.org", "ACME\\jane", id="bare backslash is text"),
        pytest.param("a@b.org <a@b.org>", "a@b.org", "a@b.org", id="address as name"),
        pytest.param("John Q. Public <a@b.org>", "a@b.org", "John Q. Public", id="period"),
        pytest.param("=?utf-8?q?J?= <a@b.org>", "a@b.org", "=?utf-8?q?J?=", id="encoded-word"),
        pytest.param("a@b.org (Jane Doe)", "a@b.org", "Jane Doe", id="comment as name"),
        pytest.param("(Jane) <a@b.org> (Doe)", "a@b.org", "Jane Doe", id="comments as name"),
        pytest.param(
            "a@b.org (Jane (Acme) D\\))", "a@b.org", "Jane (Acme) D)", id="nested comment"
        ),
        pytest.param('a@b.org ("J" Doe)', "a@b.org", '"J" Doe', id="quotes in a comment"),
        pytest.param("Jürgen Groß <a@b.org>", "a@b.org", "Jürgen Groß", id="non-ASCII name"),
        pytest.param("花子 👩‍🌾 <a@b.org>", "a@b.org", "花子 👩‍🌾", id="non-BMP name"),
        pytest.param("jürgen@bücher.de", "jürgen@bücher.de", None, id="non-ASCII address"),
        pytest.param("Jane@DOE.org", "Jane@DOE.org", None, id="spelling of the address stays"),
        pytest.param('"j, <d>"@doe.org', '"j, <d>"@doe.org', None, id="quoted local part"),
        pytest.param('J <"j>d"@doe.org>', '"j>d"@doe.org', "J", id="quoted local part, bracketed"),
        pytest.param("jane@intranet", "jane@intranet", None, id="single label"),
        pytest.param("jane@corp.local", "jane@corp.local", None, id="special-use domain"),
        pytest.param("jürgen@corp.local", "jürgen@corp.local", None, id="non-ASCII, special-use"),
        pytest.param("jane@[192.0.2.1]", "jane@[192.0.2.1]", None, id="domain literal"),
        pytest.param("jane@[IPv6:::1]", "jane@[IPv6:::1]", None, id="IPv6 domain literal"),
    ],
)
def test_one_recipient_is_read(text: str, address: str, name: str | None) -> None:
    found = read(text)
    assert found == RecipientList((Mailbox(address, name),), ())


@pytest.mark.parametrize(
    ("text", "expected", "note"),
    [
        pytest.param(
            "Jane Doe <jane@doe.org>; bob@doe.org;",
            [("jane@doe.org", "Jane Doe"), ("bob@doe.org", None)],
            RecipientNote.SEMICOLON_SEPARATOR,
            id="semicolons",
        ),
        pytest.param(
            "Doe, Jane <jane@doe.org>, bob@doe.org",
            [("jane@doe.org", "Doe, Jane"), ("bob@doe.org", None)],
            RecipientNote.COMMA_IN_NAME,
            id="unquoted comma",
        ),
        pytest.param(
            "bob@doe.org, Doe, Jane, PhD <jane@doe.org>",
            [("bob@doe.org", None), ("jane@doe.org", "Doe, Jane, PhD")],
            RecipientNote.COMMA_IN_NAME,
            id="two unquoted commas, after an address",
        ),
        pytest.param(
            "Jane, <jane@doe.org>",
            [("jane@doe.org", "Jane")],
            RecipientNote.COMMA_IN_NAME,
            id="comma between name and address",
        ),
        pytest.param(
            "Jane <jane@doe.org> (work)",
            [("jane@doe.org", "Jane")],
            RecipientNote.COMMENT_DROPPED,
            id="comment beside a name",
        ),
        pytest.param(
            '"Jane\x07 Doe" <jane@doe.org>',
            [("jane@doe.org", "Jane  Doe")],
            RecipientNote.CONTROL_REPLACED,
            id="control in a quoted name",
        ),
        pytest.param(
            "Jane\x9f\x00 <jane@doe.org>",
            [("jane@doe.org", "Jane")],
            RecipientNote.CONTROL_REPLACED,
            id="controls at the end of a name",
        ),
        pytest.param(
            "jane@doe.org, Bob <jane@DOE.org>",
            [("jane@doe.org", None)],
            RecipientNote.DUPLICATE_DROPPED,
            id="duplicate",
        ),
        pytest.param(
            "Team: jane@doe.org, bob@doe.org",
            [("jane@doe.org", None), ("bob@doe.org", None)],
            RecipientNote.GROUP_NAME_DROPPED,
            id="group",
        ),
        pytest.param(
            "undisclosed-recipients:;", [], RecipientNote.GROUP_NAME_DROPPED, id="empty group"
        ),
        pytest.param(
            "Mailto:jane@doe.org",
            [("jane@doe.org", None)],
            RecipientNote.MAILTO_DROPPED,
            id="mailto",
        ),
        pytest.param(
            "Jane <mailto:jane@doe.org>",
            [("jane@doe.org", "Jane")],
            RecipientNote.MAILTO_DROPPED,
            id="mailto in brackets",
        ),
        pytest.param(
            "Jane Doe [mailto:jane@doe.org]",
            [("jane@doe.org", "Jane Doe")],
            RecipientNote.MAILTO_DROPPED,
            id="mailto in square brackets",
        ),
        pytest.param(
            '"Doe, Jane" [MAILTO:jane@doe.org] , bob@doe.org',
            [("jane@doe.org", "Doe, Jane"), ("bob@doe.org", None)],
            RecipientNote.MAILTO_DROPPED,
            id="mailto in square brackets, more after it",
        ),
        pytest.param(
            "'jane@doe.org'",
            [("jane@doe.org", None)],
            RecipientNote.QUOTES_DROPPED,
            id="apostrophes",
        ),
        pytest.param(
            "Jane <'jane@doe.org'>",
            [("jane@doe.org", "Jane")],
            RecipientNote.QUOTES_DROPPED,
            id="apostrophes in brackets",
        ),
        pytest.param(
            '"jane@doe.org","bob@doe.org"',
            [("jane@doe.org", None), ("bob@doe.org", None)],
            RecipientNote.QUOTES_DROPPED,
            id="addresses in quotes",
        ),
        pytest.param(
            "“jane@doe.org”, ‘bob@doe.org’",
            [("jane@doe.org", None), ("bob@doe.org", None)],
            RecipientNote.QUOTES_DROPPED,
            id="curly quotes",
        ),
        pytest.param(
            "jane@doe.org\r\nbob@doe.org\r\n",
            [("jane@doe.org", None), ("bob@doe.org", None)],
            RecipientNote.LINE_SEPARATOR,
            id="one address a line",
        ),
        pytest.param(
            "\n  Jane <jane@doe.org>\n  Roe <roe@doe.org>\n\n  <bob@doe.org>\n",
            [("jane@doe.org", "Jane"), ("roe@doe.org", "Roe"), ("bob@doe.org", None)],
            RecipientNote.LINE_SEPARATOR,
            id="one name and address a line",
        ),
        pytest.param(
            'jane@doe.org (Jane)\n"Doe, Bob" <bob@doe.org>',
            [("jane@doe.org", "Jane"), ("bob@doe.org", "Doe, Bob")],
            RecipientNote.LINE_SEPARATOR,
            id="a line with a comment, one with quotes",
        ),
        *(
            pytest.param(address, [(address, None)], RecipientNote.UNUSUAL_ADDRESS, id=id_)
            for address, id_ in [
                ("jane..doe@docomo.ne.jp", "two dots"),
                ("jane.@docomo.ne.jp", "dot at the end"),
                (".jane@docomo.ne.jp", "dot first"),
                ("j...d.@bücher.de", "dots, non-ASCII domain"),
                ("a" * 65 + "@b.org", "long local part"),
            ]
        ),
    ],
)
def test_a_repair_is_noted(
    text: str, expected: list[tuple[str, str | None]], note: RecipientNote
) -> None:
    assert mailboxes(text) == expected
    assert read(text).notes == (note,)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Jane\r\n Doe\r\n <jane@doe.org>\r\n", "Jane Doe"),
        ("jane@doe.org\r\n (Jane)\r\n", "Jane"),
        ("<jane@doe.org>\n (Jane)", "Jane"),
        ("j@d.org\r\n <jane@doe.org>", "j@d.org"),
        ('"j@d.org"\r\n <jane@doe.org>', "j@d.org"),
    ],
)
def test_a_line_break_within_an_entry_is_folding(text: str, name: str) -> None:
    assert read(text) == RecipientList((Mailbox("jane@doe.org", name),))


@pytest.mark.parametrize("text", ["", " \r\n\t", ",", " , ,, ", "\xa0"])
def test_a_list_of_nothing_is_empty(text: str) -> None:
    assert read(text) == RecipientList()


def test_empty_pieces_are_skipped() -> None:
    assert mailboxes(",, a@b.org, ,\n,c@d.org,") == [("a@b.org", None), ("c@d.org", None)]


def test_each_kind_of_note_is_given_once() -> None:
    found = read("Doe, Jane <a@b.org>; Doe, Bob <c@d.org>; e@f.org")
    assert found.notes == (RecipientNote.SEMICOLON_SEPARATOR, RecipientNote.COMMA_IN_NAME)


@pytest.mark.parametrize(
    ("text", "piece", "reason"),
    [
        pytest.param("Jane", "Jane", "must have an @-sign", id="no address"),
        pytest.param("a@b.org, Doe", "Doe", "must have an @-sign", id="name at the end"),
        pytest.param(
            "Doe; J <a@b.org>", "Doe", "must have an @-sign", id="name before a semicolon"
        ),
        pytest.param("Jane a@b.org", "Jane a@b.org", "SPACE", id="no brackets"),
        pytest.param("Doe, a@b.org", "Doe, a@b.org", "','", id="no brackets, unquoted comma"),
        pytest.param("<a@b.org> Jane", "<a@b.org> Jane", "follows", id="name after address"),
        pytest.param("<a@b.org> <c@d.org>", "<a@b.org> <c@d.org>", "another", id="two addresses"),
        pytest.param('"Jane <a@b.org>', '"Jane <a@b.org>', "quote", id="unclosed quote"),
        pytest.param("Jane <a@b.org", "Jane <a@b.org", "not closed", id="unclosed bracket"),
        pytest.param("Jane a@b.org>", "Jane a@b.org>", "never opened", id="unopened bracket"),
        pytest.param("a@b.org (Jane", "a@b.org (Jane", "comment", id="unclosed comment"),
        pytest.param("Jane :) <a@b.org>", "Jane :) <a@b.org>", "never began", id="smiley"),
        pytest.param("a@b.org (((x)))", "a@b.org (((x)))", "too deep", id="comment in too deep"),
        pytest.param('""' * 99, '""' * 50, "too many", id="too many quotes"),
        pytest.param("<>", "<>", "@-sign", id="empty brackets"),
        pytest.param("<@a.org:b@c.org>", "<@a.org:b@c.org>", "before the @-sign", id="route"),
        pytest.param("a@b@c.org", "a@b@c.org", "'@'", id="two @-signs"),
        pytest.param("a@b..org", "a@b..org", "two periods", id="two periods"),
        pytest.param("a@-b.org", "a@-b.org", "hyphen", id="hyphen first"),
        pytest.param(
            "jane\uff20doe.org", "jane\uff20doe.org", "full-width", id="full-width @-sign"
        ),
        pytest.param("ja\x00ne@doe.org", "ja ne@doe.org", "U+0000", id="control in an address"),
        pytest.param('"j\x07"@doe.org', '"j "@doe.org', "U+0007", id="control in a quoted address"),
        pytest.param("a@b.org\r\nBcc: c@d.org", "Bcc: c@d.org", "':'", id="header injected"),
        pytest.param("..@b.org", "..@b.org", "period", id="nothing but dots"),
        pytest.param("a@b.org\nJane Doe", "Jane Doe", "must have an @-sign", id="name on a line"),
        pytest.param("a" * 250 + "@b.org", "a" * 99 + "…", "254", id="long address"),
        pytest.param("a@" + "b" * 64 + ".org", "a@" + "b" * 64 + ".org", "many", id="long label"),
    ],
)
def test_what_is_no_recipient_is_refused_and_quoted(text: str, piece: str, reason: str) -> None:
    with pytest.raises(InvalidRecipient) as refusal:
        read(text)
    assert refusal.value.piece[:99] == piece[:99]
    assert reason in refusal.value.reason
    assert repr(refusal.value.piece) in str(refusal.value)


def test_a_refusal_is_short_however_long_the_piece() -> None:
    with pytest.raises(InvalidRecipient) as refusal:
        read("".join(map(chr, range(0x2100, 0x21F0))) + "@" + "b" * 100_000)
    assert len(str(refusal.value)) < 400


def test_the_limit_counts_recipients_before_it_judges_them() -> None:
    text = "a@b.org, a@b.org, no address at all"
    with pytest.raises(InvalidRecipient, match="at most 2 recipients") as refusal:
        read(text, limit=2)
    assert refusal.value.piece == "no address at all"
    assert len(read("a@b.org, c@d.org,;", limit=2).mailboxes) == 2


@pytest.mark.parametrize(
    ("mailbox", "classic", "final"),
    [
        pytest.param(BOB, "bob@doe.org", "bob@doe.org", id="no name"),
        pytest.param(Mailbox("a@b.org", ""), "a@b.org", "a@b.org", id="empty name"),
        pytest.param(JANE, "Jane Doe <jane@doe.org>", '"Jane Doe" <jane@doe.org>', id="name"),
        pytest.param(Mailbox("a@b.org", "Zoë"), "Zoë <a@b.org>", '"Zoë" <a@b.org>', id="non-ASCII"),
        pytest.param(
            Mailbox("a@b.org", "O'Neil & Co!"),
            "O'Neil & Co! <a@b.org>",
            '"O\'Neil & Co!" <a@b.org>',
            id="atoms",
        ),
        *(
            pytest.param(Mailbox("a@b.org", name), f"{quoted} <a@b.org>", f"{quoted} <a@b.org>")
            for name, quoted in [
                ("Doe, Jane", '"Doe, Jane"'),
                ("John Q. Public", '"John Q. Public"'),
                ("Re: Jane", '"Re: Jane"'),
                ("Jane; Bob", '"Jane; Bob"'),
                ("Jane (Acme)", '"Jane (Acme)"'),
                ("c@d.org", '"c@d.org"'),
                ("[Jane]", '"[Jane]"'),
                ('"JD" \\o/', r'"\"JD\" \\o/"'),
                (" Jane", '" Jane"'),
                ("Jane  Doe", '"Jane  Doe"'),
                ("=?utf-8?q?J?=", '"=?utf-8?q?J?="'),
                ("Jane\r\nBcc: c@d.org", '"Jane Bcc: c@d.org"'),
                ("Jane\x00\u2028Doe", '"Jane  Doe"'),
            ]
        ),
        pytest.param(
            Mailbox("a..b@c.org", "A"), "A <a..b@c.org>", '"A" <a..b@c.org>', id="unusual address"
        ),
        pytest.param(Mailbox(" 'a@b.org'\n"), "a@b.org", "a@b.org", id="what stands around one"),
        *(
            pytest.param(Mailbox(address, "Jane"), "", "", id=id_)
            for address, id_ in [
                ("a@b.org\r\n, c@d.org", "an address that is two"),
                ("a@b.org>, <c@d.org", "an address that closes its bracket"),
                ("jane", "a name for an address"),
                ("", "no address"),
            ]
        ),
    ],
)
def test_one_recipient_is_written(mailbox: Mailbox, classic: str, final: str) -> None:
    assert write([mailbox], always_quote=False) == classic
    assert write([mailbox], always_quote=True) == final


def test_entries_are_written_with_a_comma_between() -> None:
    assert write([JANE, BOB], always_quote=False) == "Jane Doe <jane@doe.org>, bob@doe.org"
    assert write([], always_quote=False) == ""


def test_lists_are_joined_without_duplicates_and_with_all_notes() -> None:
    first = read("Jane Doe <jane@doe.org>; bob@doe.org")
    second = read("Bob <bob@DOE.org>, Roe, Al <al@doe.org>")
    assert join(first, second) == RecipientList(
        (JANE, BOB, Mailbox("al@doe.org", "Roe, Al")),
        (
            RecipientNote.SEMICOLON_SEPARATOR,
            RecipientNote.COMMA_IN_NAME,
            RecipientNote.DUPLICATE_DROPPED,
        ),
    )
    assert join() == RecipientList()


def test_duplicates_differ_in_the_case_of_the_domain_only() -> None:
    first, again, other = Mailbox("a@b.org"), Mailbox("a@B.ORG", "A"), Mailbox("A@b.org")
    assert deduplicate([first, again, other, first]) == (first, other)


# Properties. Special-use domains are valid here, unlike in email-validator's default.

SPECIALS = "()<>[]:;@\\,.\" \t\r\n\x00\x85\xa0\u2028\uff20\uff0c=?'!-_"
ATOM = "abzAZ09!#$%&'*+/=?^_`{|}~-"


def texts(
    alphabet: str, *, min_size: int = 0, max_size: int | None = None
) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from(alphabet), min_size=min_size, max_size=max_size)


def dotted(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(part, min_size=1, max_size=4).map(".".join)


names = st.text(
    st.sampled_from("".join(c for c in SPECIALS if c.isprintable()))
    | st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]),
    min_size=1,
)
local_parts = st.one_of(
    dotted(texts(ATOM, min_size=1, max_size=9)),
    dotted(texts(ATOM + "üñ花", min_size=1, max_size=9)),
    texts(ATOM + SPECIALS + "ü", max_size=20).map(
        lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    ),
)
domains = st.one_of(
    dotted(texts("abzAZ09-", min_size=1, max_size=9)),
    dotted(texts("abzü花", min_size=1, max_size=9)),
    st.sampled_from(["[192.0.2.1]", "[IPv6:2001:db8::1]", "xn--bcher-kva.de", "localhost"]),
)
addresses = st.builds("{}@{}".format, local_parts, domains).filter(is_valid)
unusual_addresses = st.builds(
    "{}@{}".format, texts(ATOM + "....ü", min_size=1, max_size=70), domains
)
given_addresses = st.one_of(
    addresses, unusual_addresses, st.text(), texts("ab@." + SPECIALS), addresses.map("'{}'".format)
)
"""What v2 may give, valid or not."""
valid_lists = st.lists(st.builds(Mailbox, addresses, st.none() | names)).map(deduplicate)
list_texts = st.one_of(
    st.text(),
    texts("ab" + SPECIALS),
    st.lists(st.one_of(addresses, names, texts(SPECIALS))).map("".join),
    st.lists(st.builds(Mailbox, addresses | st.text(), st.none() | st.text())).map(
        lambda found: write(found, always_quote=False)
    ),
)


@given(valid_lists, st.booleans())
@example((Mailbox("a@b.org", " "),), False)
@example((Mailbox("a@b.org", "\\"), Mailbox("c@d.org", '"')), True)
def test_what_was_written_reads_back(found: tuple[Mailbox, ...], always_quote: bool) -> None:
    back = read(write(found, always_quote=always_quote))
    assert back == RecipientList(found, ())


@given(st.lists(st.builds(Mailbox, given_addresses, st.none() | st.text())), st.booleans())
@example([Mailbox("a..b@docomo.ne.jp"), Mailbox("jane", "J"), Mailbox("a@b.org", "x")], True)
@example(
    [Mailbox("'a@b.org'"), Mailbox("a@b.org\nBcc: c@d.org"), Mailbox("[mailto:a@b.org]")], False
)
def test_whatever_was_written_can_be_read(found: list[Mailbox], always_quote: bool) -> None:
    back = read(write(found, always_quote=always_quote)).mailboxes

    good = [mailbox for mailbox in found if is_mailable(mailbox.address)]
    assert len(deduplicate([*back, *good])) == len(back) <= len(found)
    assert all(is_mailable(mailbox.address) for mailbox in back)


@given(list_texts)
def test_whatever_is_accepted_is_valid_and_harmless(text: str) -> None:
    try:
        found = read(text)
    except InvalidRecipient:
        return
    for mailbox in found.mailboxes:
        assert is_mailable(mailbox.address)
        assert mailbox.name is None or mailbox.name
        assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in mailbox.name or "")
        assert not {"\u2028", "\u2029"} & set(mailbox.name or "")


@given(list_texts, st.booleans())
def test_reading_again_changes_nothing(text: str, always_quote: bool) -> None:
    try:
        found = read(text).mailboxes
    except InvalidRecipient:
        return
    again = read(write(found, always_quote=always_quote))
    assert again.mailboxes == found
    assert set(again.notes) <= {RecipientNote.UNUSUAL_ADDRESS}


@given(given_addresses, st.none() | st.text(), st.booleans())
@example("a@b.org, c@d.org", None, False)
@example("Team: a@b.org", None, False)
def test_no_mailbox_reads_as_two(address: str, name: str | None, always_quote: bool) -> None:
    found = read(write([Mailbox(address, name), BOB], always_quote=always_quote)).mailboxes

    assert found[-1].address == BOB.address
    assert len(found) <= 2


@given(st.lists(st.builds(Mailbox, addresses, st.none() | names)))
def test_deduplicating_keeps_the_first_of_each_address(found: list[Mailbox]) -> None:
    unique = deduplicate(found)
    assert deduplicate(unique) == unique
    assert deduplicate([*found, *found]) == unique
    assert {mailbox.address for mailbox in found} >= {mailbox.address for mailbox in unique}


@given(
    st.builds(
        "{}@{}".format,
        texts("abAZ09.!-_'", max_size=66) | dotted(texts(ATOM, min_size=1, max_size=30)),
        texts("abAZ09.-_", max_size=80) | dotted(texts("abAZ09-", min_size=1, max_size=66)),
    )
)
@example("a" * 64 + "@" + ".".join(["b" * 63] * 2) + "." + "c" * 61)
@example("a" * 64 + "@" + ".".join(["b" * 63] * 3))
@example("a@b.12")
def test_plain_addresses_are_those_of_email_validator(address: str) -> None:
    is_plain = recipients._PLAIN_ADDRESS.fullmatch(address) is not None
    if "--" in address.rpartition("@")[2]:
        assert is_valid(address) or not is_plain
    else:
        assert (is_plain and len(address) <= 254) == is_valid(address)


@given(st.emails() | given_addresses, st.none() | st.text(), st.booleans())
@example("a@b.org", "=?utf-8?q?J?=", False)
def test_plain_addresses_are_written_as_all_others(
    address: str, name: str | None, always_quote: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipients, "_PLAIN_ADDRESS", re.compile("(?!)"))
        slowly = write([Mailbox(address, name)], always_quote=always_quote)

    assert write([Mailbox(address, name)], always_quote=always_quote) == slowly


def test_an_address_on_the_line_before_the_brackets_of_another_is_no_name() -> None:
    with pytest.raises(InvalidRecipient, match="on the line before"):
        read("jane@doe.org\n<bob@doe.org>")

    for same in ("jane@doe.org\n<jane@doe.org>", "Jane\n <jane@doe.org>"):
        assert [each.address for each in read(same).mailboxes] == ["jane@doe.org"]
