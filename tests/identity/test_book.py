"""The credential book: what it may say, what is wrong with it, and how it is edited."""

import os
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.identity import book as book_module
from bridge.identity.book import (
    Book,
    BookError,
    Cost,
    Row,
    WrongField,
    load,
    read_row,
    read_rows,
)
from bridge.identity.book_editing import add, remove
from bridge.identity.passwords import hash_password
from bridge.secret import Secret
from bridge.v1.dialects import Dialect

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$x3TWcLmAr0PAoR1p7ByMnQ"
TOKEN = "1234567.pt.s3cret"
ENVIRON = {"ACME_TOKEN": TOKEN, "OTHER_TOKEN": "other-token"}

JANE = {
    "subdomain": "acme",
    "login": "jane@acme.example",
    "password": HASH,
    "account_id": 1000,
    "token": "env:ACME_TOKEN",
}


def row(**fields: Any) -> Row:
    return read_row({**JANE, **fields})


def block(**fields: Any) -> str:
    """A credential as an operator writes it; a field of None is left out."""
    lines = [
        f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"'
        for name, value in {**JANE, **fields}.items()
        if value is not None
    ]
    return "\n".join(["[[credential]]", *lines, ""])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.toml"


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def book(path: Path, text: str | bytes, environ: Mapping[str, str] = ENVIRON) -> Book:
    return load(write(path, text), environ)


def complaint(path: Path, text: str | bytes, environ: Mapping[str, str] = ENVIRON) -> str:
    """What is said of a book that is refused, without its path; nothing of it is secret."""
    with pytest.raises(BookError) as raised:
        book(path, text, environ)
    said = "".join(traceback.format_exception(raised.value))
    assert "s3cret" not in said
    assert HASH[30:] not in said
    line = str(raised.value)
    assert line.isprintable()
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


class TestFinding:
    def test_a_login_is_found_with_all_that_belongs_to_it(self, path: Path) -> None:
        text = block(dialect="final", label="nightly invoicing") + block(
            login="bob@acme.example", token="env:OTHER_TOKEN"
        )

        found = book(path, text).find("acme", "jane@acme.example")

        assert found is not None
        assert (found.account_id, found.token.reveal()) == (1000, TOKEN)
        assert (found.dialect, found.label) == (Dialect.FINAL, "nightly invoicing")
        assert found.password_hash.reveal() == HASH
        assert found.cost == Cost(memory=8, passes=1, lanes=1, salt_length=16, tag_length=16)
        assert found.reference == "env:ACME_TOKEN"

    @pytest.mark.parametrize("subdomain", ["acme", "ACME", " Acme "])
    @pytest.mark.parametrize(
        "login", ["jane@acme.example", "JANE@Acme.Example", " jane@acme.example\t"]
    )
    def test_case_and_outer_blanks_do_not_count(
        self, path: Path, subdomain: str, login: str
    ) -> None:
        assert book(path, block()).find(subdomain, login) is not None

    @pytest.mark.parametrize(
        ("written", "asked"), [("STRASSE@a.example", "straße@a.example"), ("e\u0301@a", "\u00c9@a")]
    )
    def test_logins_are_compared_as_text_not_as_code_points(
        self, path: Path, written: str, asked: str
    ) -> None:
        assert book(path, block(login=written)).find("acme", asked) is not None

    @pytest.mark.parametrize(
        ("subdomain", "login"),
        [("acme", "bob@acme.example"), ("acme2", "jane@acme.example"), ("", ""), ("acme", "")],
    )
    def test_nobody_else_is(self, path: Path, subdomain: str, login: str) -> None:
        assert book(path, block()).find(subdomain, login) is None

    def test_one_login_may_be_at_two_subdomains(self, path: Path) -> None:
        kept = book(path, block() + block(subdomain="Globex", account_id=2000))

        assert dict(kept.accounts) == {"acme": 1000, "globex": 2000}
        assert [kept.find(each, JANE["login"]) for each in ("acme", "globex")] == [*kept.entries]  # type: ignore[arg-type]

    def test_nothing_of_a_book_can_be_changed(self, path: Path) -> None:
        kept = book(path, block())

        with pytest.raises(TypeError):
            kept.accounts["acme"] = 1  # type: ignore[index]
        with pytest.raises(AttributeError):
            kept.entries = ()  # type: ignore[misc]
        with pytest.raises(AttributeError):
            kept.entries[0].account_id = 1  # type: ignore[misc]

    def test_it_does_not_show_what_is_secret(self, path: Path) -> None:
        shown = f"{book(path, block())!r} {book(path, block())}"

        assert "jane@acme.example" in shown
        assert TOKEN not in shown
        assert HASH not in shown

    def test_a_book_may_hold_nothing_but_a_comment(self, path: Path) -> None:
        empty = book(path, "# Nobody yet.\n")

        assert (empty.entries, dict(empty.accounts), empty.usual_cost) == ((), {}, None)

    def test_the_usual_cost_is_that_of_most_hashes(self, path: Path) -> None:
        dear = HASH.replace("m=8", "m=16")
        text = block() + block(login="a", password=dear) + block(login="b", password=dear)

        assert book(path, text).usual_cost == Cost(16, 1, 1, 16, 16)


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no-subdomain": ({"subdomain": None}, "(jane@acme.example): subdomain: must be given"),
    "subdomain-with-domain": ({"subdomain": "acme.harvestapp.com"}, "subdomain: must be what"),
    "empty-subdomain": ({"subdomain": ""}, "(jane@acme.example): subdomain: must be what"),
    "no-login": ({"login": None}, "(acme): login: must be given"),
    "blank-login": ({"login": "  "}, "login: must be printable"),
    "login-with-colon": ({"login": "jane:doe"}, "login: must be printable, without a colon"),
    "login-with-control": ({"login": "ja\\nne"}, "login: must be printable"),
    "no-account": ({"account_id": None}, "account_id: must be given"),
    "account-of-nobody": ({"account_id": 0}, "account_id: expected `int` >= 1"),
    "account-too-large": ({"account_id": 2**63}, "account_id: "),
    "account-as-text": ({"account_id": "1000"}, "account_id: expected `int`, got `str`"),
    "no-token": ({"token": None}, "token: must be given"),
    "token-itself": ({"token": TOKEN}, "token: must be env:NAME or file:/absolute/path"),
    "token-of-an-odd-variable": ({"token": "env:1.s3cret"}, "token: must be env:NAME"),
    "token-in-a-relative-file": ({"token": "file:s3cret"}, "token: must be env:NAME"),
    "token-unset": ({"token": "env:UNSET"}, "token: the environment variable UNSET is not set"),
    "dialect": ({"dialect": "s3cret"}, "dialect: must be classic or final"),
    "label": ({"label": "s3cret\\u0007"}, "label: must be printable"),
    "no-password": ({"password": None}, "password: must be given"),
    "plain-password": ({"password": "s3cret"}, "password: must be an Argon2id hash"),
    "argon2i": ({"password": HASH.replace("2id", "2i")}, "password: must be an Argon2id hash"),
    "argon2-of-old": ({"password": HASH.replace("19", "16")}, "password: must be an Argon2id hash"),
    "cut-short": ({"password": HASH[:-5]}, "password: must be an Argon2id hash"),
    "stray-bits": ({"password": HASH[:-1] + "R"}, "password: must be an Argon2id hash"),
    "leading-zero": ({"password": HASH.replace("m=8", "m=08")}, "must be an Argon2id hash"),
    "too-dear": ({"password": HASH.replace("m=8", "m=4194304")}, "password: costs more than"),
    "too-slow": ({"password": HASH.replace("t=1", "t=1000000")}, "password: costs more than"),
    "too-many-lanes": ({"password": HASH.replace("p=1", "p=2")}, "password: has an m below"),
    "misspelt-field": (
        {"pasword": "s3cret"},
        "pasword: there is no such field: did you mean password?",
    ),
    "field-with-a-dash": ({"Account-ID": 1}, "Account-ID: there is no such field: did you mean"),
    "unknown-field": (
        {"s3cret": "s3cret"},
        "it has a field that is none of subdomain, login, password",
    ),
}
"""What an operator can get wrong in a credential, and what is said of it."""


class TestComplaints:
    @pytest.mark.parametrize("case", WRONG)
    def test_the_credential_and_what_is_wrong_with_it_are_named(
        self, path: Path, case: str
    ) -> None:
        fields, expected = WRONG[case]

        said = complaint(path, block(login="bob@acme.example") + block(**fields))

        assert said.startswith("credential 2 (")
        assert expected in said

    def test_a_pair_that_is_there_twice(self, path: Path) -> None:
        said = complaint(path, block() + block(login="b") + block(login="JANE@ACME.example"))

        assert said == (
            "credential 3 (acme, JANE@ACME.example): credential 1 has this subdomain and login already"
        )

    def test_two_accounts_for_one_subdomain(self, path: Path) -> None:
        said = complaint(path, block() + block(subdomain="ACME", login="b", account_id=1001))

        assert said == (
            "credential 2 (acme, b): account_id: 1001, where credential 1 has 1000 for the same "
            "subdomain"
        )

    def test_a_credential_without_any_name_is_known_by_its_place(self, path: Path) -> None:
        text = "[[credential]]\nsubdomain = 1\nlogin = ['s3cret']\n"

        assert complaint(path, text).startswith("credential 1: subdomain: expected `str`")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("", "it is empty", id="empty"),
            pytest.param(" \n\n", "it is empty", id="blank"),
            pytest.param("= s3cret", "it is not TOML at line 1, column 1", id="no-toml"),
            pytest.param("[[credential]]\ns3cret", "it is not TOML at end of document", id="cut"),
            pytest.param(b"# \xff", "byte 2 is not UTF-8", id="no-utf-8"),
            pytest.param(
                "[server]\nport = 1\n", "only [[credential]] may stand in a book", id="other-table"
            ),
            pytest.param("[credential]\n", "each credential must begin with", id="one-bracket"),
            pytest.param("credential = ['s3cret']", "each credential must begin", id="strings"),
            pytest.param("a = " + "[" * 100_000, "it is nested too deeply", id="deep"),
            pytest.param(b"#" * (16 * 1024 * 1024 + 1), "it has more than 16777216", id="long"),
        ],
    )
    def test_a_file_that_is_no_book(self, path: Path, text: str | bytes, expected: str) -> None:
        assert complaint(path, text).startswith(expected)

    def test_a_file_that_is_not_there(self, path: Path) -> None:
        with pytest.raises(BookError) as raised:
            load(path, ENVIRON)

        assert str(raised.value) == f"{path}: No such file or directory"

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
    def test_what_is_no_file_does_not_keep_it_waiting(self, path: Path, make: Any) -> None:
        make(path)
        path.chmod(0o700)

        with pytest.raises(BookError, match="not a regular file"):
            load(path, ENVIRON)

    def test_a_name_that_would_break_the_line_does_not(self, tmp_path: Path) -> None:
        with pytest.raises(BookError) as raised:
            load(tmp_path / "a\nb\x1b[2J", ENVIRON)

        assert str(raised.value).isprintable()

    @given(st.binary(max_size=200) | st.text(alphabet='[]c"=\n{}#.', max_size=60).map(str.encode))
    def test_no_bytes_make_it_fail_otherwise(self, octets: bytes) -> None:
        try:
            book_module.parse(Path("book.toml"), octets)
        except BookError as error:
            said = str(error)
        else:
            said = ""
        assert said.isprintable()

    @given(
        st.dictionaries(
            st.sampled_from([*JANE, "dialect", "label", "other"]),
            st.text() | st.integers() | st.booleans() | st.none() | st.lists(st.text()),
        )
    )
    def test_no_fields_make_a_credential_of_something_else(self, fields: dict[str, Any]) -> None:
        try:
            made = read_row({**JANE, **fields})
        except WrongField:
            return
        assert isinstance(made.login, str)
        assert isinstance(made.account_id, int)


OPEN = [
    pytest.param(mode, id=oct(mode)) for mode in (0o660, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777)
]


class TestPermissions:
    @pytest.mark.parametrize("mode", OPEN)
    def test_a_book_that_others_have_access_to_is_refused(self, path: Path, mode: int) -> None:
        write(path, block(), mode)

        with pytest.raises(BookError) as raised:
            load(path, ENVIRON)

        assert str(raised.value).endswith(f": chmod 600 {path}")

    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
    def test_what_its_owner_may_do_is_his_business(self, path: Path, mode: int) -> None:
        assert load(write(path, block(), mode), ENVIRON).entries

    @pytest.mark.parametrize("mode", OPEN)
    def test_so_is_a_token_file_that_others_have_access_to(
        self, path: Path, tmp_path: Path, mode: int
    ) -> None:
        token = write(tmp_path / "token", TOKEN, mode)

        said = complaint(path, block(token=f"file:{token}"))

        assert said.startswith("credential 1 (acme, jane@acme.example): token: ")
        assert said.endswith(f": chmod 600 {token}")

    def test_the_command_that_is_told_mends_it(self, tmp_path: Path) -> None:
        path = write(tmp_path / "my book's.toml", block(), 0o644)
        with pytest.raises(BookError) as raised:
            load(path, ENVIRON)

        command = str(raised.value).rpartition(": ")[2]
        subprocess.run(command, shell=True, check=True)

        assert load(path, ENVIRON).entries

    def test_a_link_is_judged_by_what_it_leads_to(self, path: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(write(path, block(), 0o644))

        with pytest.raises(BookError, match="chmod 600"):
            load(link, ENVIRON)
        path.chmod(0o600)
        assert load(link, ENVIRON).entries


class TestTokens:
    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_a_token_file_may_end_in_a_newline(self, path: Path, tmp_path: Path, end: str) -> None:
        token = write(tmp_path / "token", TOKEN + end)

        (entry,) = book(path, block(token=f"file:{token}")).entries

        assert entry.token.reveal() == TOKEN

    @pytest.mark.parametrize(
        ("held", "expected"),
        [
            pytest.param(b"", "it is empty", id="empty"),
            pytest.param(b"\n", "it is empty", id="a-newline"),
            pytest.param(b"s3cret\n\n", "holds no token", id="two-newlines"),
            pytest.param(b"s3cret token", "holds no token", id="a-blank"),
            pytest.param(b"s3cret\r\nX-Evil: 1", "holds no token", id="another-header"),
            pytest.param("s3cret-tökén".encode(), "holds no token", id="not-ascii"),
            pytest.param(b"s3cret\0", "holds no token", id="nul"),
            pytest.param(b"s3cret" * 1000, "it has more than 4098 bytes", id="long"),
            pytest.param(None, "No such file or directory", id="missing"),
        ],
    )
    def test_a_file_that_holds_none_is_refused(
        self, path: Path, tmp_path: Path, held: bytes | None, expected: str
    ) -> None:
        token = tmp_path / "token"
        if held is not None:
            write(token, held)

        said = complaint(path, block(token=f"file:{token}"))

        assert said.startswith(f"credential 1 (acme, jane@acme.example): token: {token}")
        assert expected in said

    @pytest.mark.parametrize(
        "held",
        [
            pytest.param("s3cret token", id="a-blank"),
            pytest.param("s3cret\n", id="a-newline"),
            pytest.param("s3cret-tökén", id="not-ascii"),
            pytest.param("s3cret" * 1000, id="long"),
        ],
    )
    def test_so_is_a_variable(self, path: Path, held: str) -> None:
        assert "ACME_TOKEN holds no token" in complaint(path, block(), {"ACME_TOKEN": held})

    def test_an_empty_variable_is_as_good_as_none(self, path: Path) -> None:
        assert complaint(path, block(), {"ACME_TOKEN": ""}).endswith("is not set, or empty")


COMMENTED = f"""\
# Whose book this is.

# Jane's.
{block()}# She left in May.

# Bob's, for two reasons:
# invoices and reminders.
{block(login="bob").replace("1000", "1000  # since 2015")}
# Carol's.
{block(login="carol")}"""


class TestEditing:
    def test_a_book_is_made_when_there_is_none(self, path: Path) -> None:
        add(path, row(label="first"))

        assert read_rows(path) == (row(label="first"),)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_what_is_added_comes_last_and_nothing_else_changes(self, path: Path) -> None:
        write(path, COMMENTED)

        assert add(path, row(login="dave")) is False

        assert path.read_text().startswith(COMMENTED)
        assert [each.login for each in read_rows(path)] == [
            "jane@acme.example",
            "bob",
            "carol",
            "dave",
        ]

    def test_a_pair_that_is_there_is_not_added(self, path: Path) -> None:
        write(path, COMMENTED)

        with pytest.raises(
            BookError, match=r"credential 2 \(acme, bob\): it is in the book already"
        ):
            add(path, row(login="BOB"))

        assert path.read_text() == COMMENTED

    def test_but_it_can_be_replaced_where_it_stands(self, path: Path) -> None:
        write(path, COMMENTED)

        assert add(path, row(login="bob", token="env:OTHER_TOKEN", dialect="final"), replace=True)

        bob = block(login="bob", dialect="final").replace("ACME_TOKEN", "OTHER_TOKEN")
        expected = COMMENTED.replace(
            block(login="bob").replace("1000", "1000  # since 2015"),
            bob.replace("1000", "1000  # since 2015"),
        )
        assert path.read_text() == expected

    def test_replacing_drops_what_the_new_one_does_not_have(self, path: Path) -> None:
        write(path, block(dialect="final", label="old") + "\n" + block(login="bob"))

        add(path, row(), replace=True)

        assert path.read_text() == block() + "\n" + block(login="bob")

    @pytest.mark.parametrize(
        ("login", "gone"),
        [
            pytest.param("jane@acme.example", f"# Jane's.\n{block()}", id="first"),
            pytest.param(
                "BOB",
                "# Bob's, for two reasons:\n# invoices and reminders.\n"
                + block(login="bob").replace("1000", "1000  # since 2015")
                + "\n",
                id="middle",
            ),
            pytest.param("carol", "\n# Carol's.\n" + block(login="carol"), id="last"),
        ],
    )
    def test_what_is_removed_takes_its_own_comment_along_and_no_other(
        self, path: Path, login: str, gone: str
    ) -> None:
        assert gone in COMMENTED
        write(path, COMMENTED)

        remove(path, "ACME", login)

        assert path.read_text() == COMMENTED.replace(gone, "")

    @pytest.mark.parametrize(
        "form",
        [
            pytest.param(lambda text: text.replace("\n", "\r\n"), id="crlf"),
            pytest.param(
                lambda text: text.replace("[[", "  [[ ").replace("\n", " \n"), id="blanks"
            ),
            pytest.param(
                lambda text: text.replace("[[credential]]", '[["credential"]]'), id="quotes"
            ),
            pytest.param(lambda text: text.rstrip(), id="no-last-newline"),
            pytest.param(lambda text: text + "# [[credential]]\n", id="commented-out"),
        ],
    )
    def test_however_it_is_written_one_is_replaced_and_removed(self, path: Path, form: Any) -> None:
        write(path, form(COMMENTED))

        assert add(path, row(login="bob", account_id=1000, label="new"), replace=True)
        assert [each.label for each in read_rows(path)] == [None, "new", None]
        for login in ("carol", "jane@acme.example"):
            remove(path, "acme", login)

        assert [each.login for each in read_rows(path)] == ["bob"]
        assert "# She left in May." in path.read_text()

    def test_the_last_one_leaves_a_book_that_can_be_read(self, path: Path) -> None:
        write(path, block())

        remove(path, "acme", "jane@acme.example")

        assert load(path, {}).entries == ()

    def test_what_is_not_there_cannot_be_removed(self, path: Path) -> None:
        write(path, COMMENTED)

        with pytest.raises(BookError, match="no credential of this subdomain and login"):
            remove(path, "acme", "dave")

    def test_tokens_need_not_be_there_while_a_book_is_edited(self, path: Path) -> None:
        add(path, row(token="file:/not/there"))
        add(path, row(login="b", token="env:NOT_THERE"))
        remove(path, "acme", "b")

        assert [each.login for each in read_rows(path)] == ["jane@acme.example"]

    def test_a_broken_book_is_left_alone(self, path: Path) -> None:
        write(path, block() + block())

        for edit in (lambda: add(path, row(login="b")), lambda: remove(path, "acme", "b")):
            with pytest.raises(BookError, match="credential 2"):
                edit()
        assert path.read_text() == block() + block()

    def test_an_addition_that_would_break_it_is_not_made(self, path: Path) -> None:
        write(path, block())

        with pytest.raises(BookError, match="account_id: 1001, where credential 1 has 1000"):
            add(path, row(login="b", account_id=1001))

        assert path.read_text() == block()

    @pytest.mark.parametrize(
        "text",
        [
            "credential = []\n",
            f"credential = [{{subdomain='acme', login='b', password='{HASH}', account_id=1000, token='env:A'}}]\n",
        ],
    )
    def test_a_book_of_another_form_is_read_but_not_edited(self, path: Path, text: str) -> None:
        write(path, text)
        read_rows(path)

        with pytest.raises(BookError):
            add(path, row())
        with pytest.raises(BookError):
            remove(path, "acme", "b")

        assert path.read_text() == text

    def test_behind_a_link_the_book_is_replaced_not_the_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        real = write(tmp_path / "real" / "book.toml", block())
        link = tmp_path / "book.toml"
        link.symlink_to(Path("real") / "book.toml")

        add(link, row(login="bob"))

        assert link.is_symlink()
        assert [each.login for each in read_rows(real)] == ["jane@acme.example", "bob"]
        assert sorted(each.name for each in tmp_path.rglob("*")) == [
            "book.toml",
            "book.toml",
            "real",
        ]

    def test_a_reader_never_sees_half_a_book(self, path: Path) -> None:
        write(path, block() + "".join(block(login=f"user-{n}") for n in range(200)))
        done = threading.Event()

        def read() -> set[int]:
            lengths = set()
            while not done.is_set():
                lengths.add(len(read_rows(path)))
            return lengths

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            try:
                for number in range(5):
                    add(path, row(login=f"new-{number}"))
            finally:
                done.set()
            assert reading.result() <= set(range(201, 207))

    def test_a_book_that_is_replaced_while_it_is_read_is_read_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(path, block())
        real = os.fstat

        def fstat(handle: int) -> os.stat_result:
            write(path.with_suffix(".new"), block() + block(login="bob")).replace(path)
            return real(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fstat", fstat)
            rows = read_rows(path)

        assert [len(rows), len(read_rows(path))] == [1, 2]

    def test_a_write_that_fails_leaves_the_book_and_nothing_else(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(path, block())

        def full(_handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(BookError, match="No space left on device"):
            add(path, row(login="bob"))

        assert path.read_text() == block()
        assert list(path.parent.iterdir()) == [path]

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BookError, match="No such file or directory"):
            add(tmp_path / "none" / "book.toml", row())

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_root_leaves_the_book_to_its_owner(self, path: Path) -> None:
        os.chown(write(path, block()), 12345, 54321)

        add(path, row(login="bob"))

        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o600)

    @pytest.mark.parametrize("mode", [0o640, 0o400])
    def test_who_can_read_the_book_can_read_it_afterwards(self, path: Path, mode: int) -> None:
        write(path, block(), mode)

        add(path, row(login="bob"))

        assert stat.S_IMODE(path.stat().st_mode) == mode

    def test_processes_that_add_at_once_lose_nothing(self, path: Path) -> None:
        write(path, COMMENTED)
        code = (
            "import sys; from pathlib import Path; from bridge.identity.book import read_row\n"
            "from bridge.identity.book_editing import add\n"
            f"for n in range(5): add(Path({str(path)!r}), "
            f"read_row({{**{JANE!r}, 'login': sys.argv[1] + str(n)}}))"
        )
        processes = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "pqrs"]

        assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
        assert {each.login for each in read_rows(path)} == {
            "jane@acme.example",
            "bob",
            "carol",
            *(f"{name}{n}" for name in "pqrs" for n in range(5)),
        }
        assert path.read_text().startswith(COMMENTED)


LOGINS = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=":"), min_size=1, max_size=60
)
ROWS = st.builds(
    row,
    subdomain=st.from_regex("[a-zA-Z0-9]([a-zA-Z0-9-]{0,10}[a-zA-Z0-9])?", fullmatch=True),
    login=LOGINS.filter(str.isprintable),
    account_id=st.integers(1, 2**63 - 1),
    token=st.sampled_from(["env:ACME_TOKEN", "env:OTHER_TOKEN"]),
    dialect=st.none() | st.sampled_from([each.value for each in Dialect]),
    label=st.none()
    | st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60).filter(str.isprintable),
)
BOOKS = st.lists(ROWS, max_size=5, unique_by=(lambda each: each.pair, lambda each: each.subdomain))


class TestLaws:
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows=BOOKS)
    def test_what_is_added_is_found(self, path: Path, rows: list[Row]) -> None:
        path.unlink(missing_ok=True)
        for each in rows:
            add(path, each)

        assert not rows or [*read_rows(path)] == rows
        for each in rows:
            found = load(path, ENVIRON).find(each.subdomain.upper(), f" {each.login}")
            assert found is not None
            assert found.pair == each.pair
            assert found.token.reveal() == ENVIRON[each.reference.removeprefix("env:")]

    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows=BOOKS.filter(len), choice=st.integers(0))
    def test_removing_and_replacing_touch_one_only(
        self, path: Path, rows: list[Row], choice: int
    ) -> None:
        path.unlink(missing_ok=True)
        for each in rows:
            add(path, each)
        chosen = choice % len(rows)
        new = row(subdomain=rows[chosen].subdomain, login=rows[chosen].login, label="new")

        add(path, new, replace=True)
        replaced = [*read_rows(path)]
        remove(path, new.subdomain, new.login)

        assert replaced == [*rows[:chosen], new, *rows[chosen + 1 :]]
        assert [*read_rows(path)] == [*rows[:chosen], *rows[chosen + 1 :]]


def test_a_hash_that_the_bridge_makes_can_stand_in_a_book() -> None:
    cheap = Cost(memory=8, passes=1, lanes=1, salt_length=16, tag_length=32)

    assert row(password=hash_password(Secret("s3cret"), cheap)).cost == cheap
