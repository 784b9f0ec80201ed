"""`harvest-bridge shadow`, and what other commands tell of comparisons."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.record.log.capture import keep_other
from bridge.record.log.database import load_key, open_database, writing
from bridge.record.log.events import CallEvent
from bridge.record.log.exchange import Exchange, Message, pack
from bridge.record.log.overheard import OverheardOther
from bridge.record.log.tables import CAPTURES
from bridge.secret import Secret
from tests.support.comparisons import BODY, ROUTE, compared_log


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "log.sqlite")


SCORE = "4 of 7 equal; 3 differ at …/body"


@pytest.fixture
def calls(database: str) -> Sequence[CallEvent]:
    return compared_log(database)


def run(*arguments: str, database: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--database", database], catch_exceptions=False)


def told(*arguments: str, database: str) -> str:
    done = run(*arguments, database=database)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("calls")
class TestWhatIsOn:
    def test_without_arguments_it_lists_scores_and_shares(self, database: str) -> None:
        said = told("shadow", database=database)

        assert said.startswith("Of integrations without a share of their own: as shadow_percent")
        assert f"\tas all\t{SCORE}\n" in said

    def test_a_share_is_decided_for_all_or_for_one(
        self, database: str, calls: Sequence[CallEvent]
    ) -> None:
        told("shadow", "--all", "--percent", "5", database=database)
        said = told("shadow", calls[0].integration, "--percent", "100", database=database)

        assert said.startswith("Of integrations without a share of their own: 5 % of the GETs.")
        assert f"\t100 %\t{SCORE}\n" in said

    def test_and_can_be_left_to_what_holds_for_all(
        self, database: str, calls: Sequence[CallEvent]
    ) -> None:
        told("shadow", calls[0].integration, "--percent", "100", database=database)
        said = told("shadow", calls[0].integration, "--percent", "as-set", database=database)

        assert f"\tas all\t{SCORE}\n" in said

    def test_as_json(self, database: str, calls: Sequence[CallEvent]) -> None:
        told("shadow", "--all", "--percent", "5", database=database)
        said = json.loads(told("shadow", "--json", database=database))

        (one,) = said["integrations"]
        assert (said["percent"], one["id"]) == (5, calls[0].integration)
        assert (one["score"]["equal"], one["score"]["different"]) == (4, 3)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--percent", "5"],
            ["--all"],
            ["--all", "a", "--percent", "5"],
            ["--all", "--percent", "101"],
            ["--all", "--percent", "-1"],
            ["--all", "--percent", "half"],
            ["nobody"],
        ],
        ids=" ".join,
    )
    def test_what_makes_no_sense_is_one_line(self, database: str, arguments: list[str]) -> None:
        done = run("shadow", *arguments, database=database)

        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1


class TestWhereAnswersDiffer:
    def test_it_is_told_with_the_latest_calls(
        self, database: str, calls: Sequence[CallEvent]
    ) -> None:
        for command in ("shadow", "integrations"):
            said = told(command, calls[0].integration, database=database)

            assert SCORE in said
            assert f"{BODY}\t{ROUTE}\tdifferent\t3\t" in said
            assert said.rstrip().endswith("r-2, r-1, r-0")

    @pytest.mark.usefixtures("calls")
    def test_integrations_have_a_column_for_it(self, database: str, tmp_path: Path) -> None:
        head, row = told("integrations", database=database).splitlines()

        assert head.split("\t")[-1] == "v1 and bridge"
        assert row.split("\t")[-1] == SCORE
        (one,) = json.loads(told("integrations", "--json", database=database))
        assert one["score"]["different"] == 3
        other = str(tmp_path / "other.sqlite")
        compared_log(other, equal=0, different=0)
        assert "v1 and bridge" not in told("integrations", database=other)

    @pytest.mark.usefixtures("calls")
    def test_a_call_says_what_came_of_it(self, database: str) -> None:
        assert f"v1 and bridge: different\n    {BODY} (1)" in told("show", "r-0", database=database)
        assert "v1 and bridge: equal" in told("show", "r-6", database=database)
        said = json.loads(told("show", "r-0", "--json", database=database))
        assert said["compared"] == {"result": "different", "differences": {BODY: 1}}

    def test_both_answers_of_a_captured_call_are_shown_without_secrets(
        self, database: str, calls: Sequence[CallEvent]
    ) -> None:
        answer = Message((), b"<body>Xxxx</body>", 17)
        exchange = Exchange(
            "GET", "http://v1/", 200, 0.0, 1.0, Message((), b"", 0), answer, upstream=[]
        )
        body = b"<body>Dear s3cret Jane</body>"
        other = OverheardOther("bridge", 200, "text/xml", body, (Secret("s3cret"),), False)
        engine = open_database(database, load_key(database, None))
        with writing(engine) as connection:
            connection.execute(CAPTURES.insert().values(id=calls[0].id, exchange=pack(exchange)))
            keep_other(connection, calls[0].id, other)
            keep_other(connection, calls[1].id, other)  # which is not captured
        engine.dispose()

        said = told("show", "r-0", database=database)
        assert "the bridge would have answered: 200" in said
        assert "Jane" not in said
        assert "s3cret" not in said
        assert "would have answered" not in told("show", "r-1", database=database)

    def test_what_v1_makes_up_does_nothing_to_a_terminal(self, database: str) -> None:
        (call, *_) = compared_log(database, place="/\x1b]0;owned\x07\u202e")

        whose = call.integration
        for arguments in (("shadow",), ("shadow", whose), ("integrations", whose), ("show", "r-0")):
            said = told(*arguments, database=database)
            assert not {"\x1b", "\x07", "\u202e"} & set(said)
