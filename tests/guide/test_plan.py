"""What an integration has to call instead, and what takes the place of what is not translated."""

import re
import shlex

import pytest

from bridge.guide import plan as plan_module
from bridge.guide.counterparts import counterpart_of, table
from bridge.guide.notes import MEANINGS
from bridge.guide.plan import Plan, Step, plan
from bridge.record.log.answers import Integration, Noted, Route, State
from bridge.record.log.events import Outcome
from bridge.resources import RESOURCES
from bridge.resources.routes import V1_ROOTS, Call
from bridge.v1.dialects import Dialect
from tests.test_documentation import rows

INTEGRATION = Integration(
    id="0123456789ab", title="Cron", account_id=1, subdomain="acme", login=None, token=None,
    agent="curl", network="192.0.2.1", way="book", is_known=True, label=None, user_agent=None,
    address=None, host=None, first_seen=0, last_seen=1, name=None, owner=None, state=State.UNKNOWN,
    remark=None, calls=1, not_served=0, outcomes={}, routes=[], dialects=[], notes={},
)  # fmt: skip
CALLS = [call for resource in RESOURCES for call in resource.calls]
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")


def route(method: str, path: str, **more: object) -> Route:
    known: dict[str, object] = {
        "dialect": None, "outcome": Outcome.SERVED, "status": 200, "refusal": None, "calls": 1,
        "v2_calls": 1, "milliseconds": 1.0, "first_seen": 0, "last_seen": 1,
    }  # fmt: skip
    return Route(method=method, route=path, **{**known, **more})  # type: ignore[arg-type]


def step_for(method: str, path: str, **more: object) -> Step:
    (step,) = plan(INTEGRATION, [route(method, path, **more)], []).steps
    return step


@every_call
def test_every_call_that_is_served_has_its_v2_calls(call: Call) -> None:
    step = step_for(call.method, call.path)

    assert bool(step.v2) == call.asks_v2
    assert step.v2 or step.remarks
    for each in step.v2:
        assert not re.search("[0-9]{9}", each.curl), "an id that was made up"
        curl, *arguments = shlex.split(each.curl)
        assert curl == "curl"
        assert f"{plan_module.V2}{each.path}" in arguments
        assert "Authorization: Bearer $TOKEN" in arguments


@every_call
@pytest.mark.parametrize("dialect", Dialect)
def test_every_field_of_an_answer_is_told_before_and_after(call: Call, dialect: Dialect) -> None:
    step = step_for(call.method, call.path, dialect=dialect.value)

    placed = [
        field.element
        for field in (call.shows.fields if call.shows and call.asks_v2 else ())
        if field.places.of(dialect) is not None
    ]
    assert [each.v1 for each in step.answer if each.v1 is not None] == placed
    for each in step.answer:
        if not each.what:
            assert each.v1 is not None
            assert (
                each.v1.replace("-", "_").rpartition("/")[2] == (each.v2 or "").rpartition(".")[2]
            )


@every_call
def test_every_element_of_a_body_is_told_before_and_after(call: Call) -> None:
    step = step_for(call.method, call.path)

    assert [(each.v1, each.v2) for each in step.body] == [
        (given.element, given.field) for given in call.takes
    ]


def test_recipients_become_a_list() -> None:
    step = step_for("GET", "/invoices/{invoice_id}/messages")

    (recipients,) = (each for each in step.answer if each.v2 == "recipients")
    assert recipients.what == ("renamed", "a list")
    assert recipients.v2_type == "array of {name, email}"


def test_what_v1_could_not_say_is_new() -> None:
    step = step_for("GET", "/invoice/{invoice_id}/messages")

    assert {each.v2 for each in step.answer if each.what == ("new",)} == {
        "attach_pdf", "event_type", "reminder",
    }  # fmt: skip


def test_an_event_is_named_in_the_body() -> None:
    step = step_for("POST", "/invoice/{invoice_id}/messages/re_open")

    assert '{"event_type": "re-open"}' in step.v2[0].curl
    assert any("event_type" in each for each in step.remarks)


def test_paging_and_the_missing_call_for_one_are_said() -> None:
    step = step_for("GET", "/invoice/{invoice_id}/messages/{message_id}")

    assert any("links.next" in each for each in step.remarks)
    assert any("by its id" in each for each in step.remarks)


def test_a_parameter_is_told_in_both_spellings() -> None:
    step = step_for("GET", "/invoice/{invoice_id}/messages")

    assert (
        "The parameter updated_since=2026-01-31 12:00 is updated_since=2026-01-31T12:00:00Z."
        in step.remarks
    )


def test_calls_of_one_kind_are_one_step_the_most_frequent_first() -> None:
    made: Plan = plan(
        INTEGRATION,
        [
            route("GET", "/clients", calls=2, outcome=Outcome.UNTRANSLATED, last_seen=9),
            route("GET", "/invoice/{invoice_id}/messages", calls=3, first_seen=4, last_seen=5),
            route(
                "GET", "/invoice/{invoice_id}/messages", calls=1, outcome=Outcome.BUSY, first_seen=2,
                last_seen=8, dialect="classic",
            ),
        ],
        [
            Noted(
                method="GET", route="/clients", code="xml-suffix", subject="path", calls=2, count=2,
            )
        ],
    )  # fmt: skip

    messages, clients = made.steps
    assert (messages.calls, messages.first_seen, messages.last_seen) == (4, 2, 8)
    assert messages.outcomes == {"served": 3, "busy": 1}
    assert messages.dialects == ["classic"]
    assert [note.code for note in clients.notes] == ["xml-suffix"]


def test_a_path_that_was_never_v1s_is_said_to_be_none() -> None:
    step = step_for("GET", "/wp/login", outcome=Outcome.MISSING)

    assert step.v2 == ()
    assert step.remarks


@pytest.mark.parametrize(
    ("method", "path", "ends"),
    [
        ("GET", "/daily/timer/{…}", ['$CONTACT)"'] * 3),
        ("POST", "/expenses/{…}/receipt", ['-F "receipt=@$FILE"']),
        ("PUT", "/clients/{…}/toggle", ['$CONTACT)"', '-d "$JSON"']),
    ],
)
def test_a_body_is_in_a_line_for_the_shell_where_v2_takes_one(
    method: str, path: str, ends: list[str]
) -> None:
    lines = [call.curl for call in step_for(method, path, outcome=Outcome.UNTRANSLATED).v2]

    assert len(lines) == len(ends)
    for line, end in zip(lines, ends, strict=True):
        assert line.endswith(end)


class TestCounterparts:
    @pytest.mark.parametrize(
        ("method", "path", "v2"),
        [
            ("GET", "/clients/{…}", ("GET /clients/{id}",)),
            ("GET", "/clients/12", ("GET /clients/{id}",)),
            ("HEAD", "/clients", ("GET /clients",)),
            ("GET", "/client/{id}", ("GET /clients/{id}",)),
            ("POST", "/daily/add", ("POST /time_entries",)),
            ("GET", "/people/{…}/entries", ("GET /time_entries?user_id={id}",)),
            ("DELETE", "/tasks/{…}", ("DELETE /tasks/{id}",)),
            ("GET", "/tasks/what/ever", ("GET /tasks",)),
            ("PUT", "/people/{…}/toggle", ("GET /users/{id}", "PATCH /users/{id}")),
            ("PUT", "/daily/update/{…}", ("PATCH /time_entries/{id}",)),
        ],
    )
    def test_a_call_of_v1_and_what_takes_its_place(
        self, method: str, path: str, v2: tuple[str, ...]
    ) -> None:
        found = counterpart_of(method, path)

        assert found is not None
        assert found.v2 == v2

    @pytest.mark.parametrize("path", ["/", "", "/nothing", "/invoicesx/1", "//"])
    def test_what_is_under_no_root_of_v1s_has_none(self, path: str) -> None:
        assert counterpart_of("GET", path) is None

    @pytest.mark.parametrize("root", sorted({*V1_ROOTS}))
    def test_every_root_of_v1_has_one(self, root: str) -> None:
        assert counterpart_of("GET", f"/{root}") is not None
        assert counterpart_of("GET", f"/{root}/what/ever/it/is") is not None

    def test_the_table_names_no_call_twice_and_each_by_method_and_path(self) -> None:
        named = [call for row in table().call for call in (row.v1, *row.also)]

        assert len(named) == len(set(named))
        for call in (*named, *(each for row in table().call for each in row.v2)):
            assert re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE) /[a-z_{}/?&=]+", call), call

    def test_none_is_a_call_that_the_bridge_serves(self) -> None:
        served = {(call.method, re.sub("{[^}]*}", "{id}", call.path)) for call in CALLS}

        for row in table().call:
            method, _, path = row.v1.partition(" ")
            assert (method, re.sub("{[^}]*}", "{id}", path)) not in served


def test_the_meaning_of_each_note_is_the_contracts() -> None:
    told = {code: meaning.strip("`") for code, meaning in MEANINGS.items()}

    assert dict(rows("code", "meaning")) == told
