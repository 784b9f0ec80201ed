"""Policies: what holds for whom, and how a bridge comes to know."""

from sqlalchemy import Engine

from bridge.identity.digests import KEY_LENGTH
from bridge.record.log.database import writing
from bridge.record.log.events import ALL
from bridge.record.log.policies import Policies, Policy, policies, put
from bridge.side import Side
from tests.support.logged import logging

KEY = b"k" * KEY_LENGTH

ONE, OTHER = "111111111111", "222222222222"


def known(engine: Engine, *decided: Policy, by_default: Policy | None = None) -> Policies:
    found = Policies(by_default or Policy(answered_by=Side.BRIDGE, shadow_percent=0))
    with writing(engine) as connection:
        for policy in decided:
            put(connection, policy)
        found.read(connection)
    return found


def test_where_nothing_was_decided_the_settings_hold(engine: Engine) -> None:
    found = known(engine)

    assert found.are_alike
    assert found.of(ONE).answered_by is Side.BRIDGE


def test_an_integrations_own_goes_before_that_for_all_and_that_before_the_settings(
    engine: Engine,
) -> None:
    found = known(
        engine,
        Policy(integration=ALL, shadow_percent=5),
        Policy(integration=ONE, answered_by=Side.V1),
    )

    own, other = found.of(ONE), found.of(OTHER)
    assert (own.answered_by, own.shadow_percent) == (Side.V1, 5)
    assert (other.answered_by, other.shadow_percent) == (Side.BRIDGE, 5)
    assert not found.are_alike


def test_what_is_decided_anew_takes_the_place_of_what_was(engine: Engine) -> None:
    known(engine, Policy(integration=ONE, answered_by=Side.V1, shadow_percent=10))

    found = known(engine, Policy(integration=ONE, shadow_percent=20))

    assert (found.of(ONE).answered_by, found.of(ONE).shadow_percent) == (Side.BRIDGE, 20)


def test_a_policy_that_says_nothing_is_none(engine: Engine) -> None:
    known(engine, Policy(integration=ONE, answered_by=Side.V1))

    found = known(engine, Policy(integration=ONE))

    assert found.are_alike
    with engine.connect() as connection:
        assert policies(connection) == []


def test_it_is_known_whether_anybody_has_a_sunset(engine: Engine) -> None:
    none = known(engine, Policy(integration=ONE, answered_by=Side.V1))
    its_own = known(engine, Policy(integration=ONE, sunset=1))
    known(engine, Policy(integration=ONE))
    for_all = known(engine, Policy(integration=ALL, sunset=1))

    assert (none.have_sunsets, its_own.have_sunsets, for_all.have_sunsets) == (False, True, True)


def test_what_held_before_the_start_is_told_as_no_change() -> None:
    found = Policies(Policy(answered_by=Side.BRIDGE))

    with logging() as log:
        found.take([Policy(integration=ONE, answered_by=Side.V1)])
        assert not log.lines("policy_changed")
        found.take([])

    assert [each["answered_by"] for each in log.lines("policy_changed")] == ["bridge"]


def test_what_is_read_after_calls_were_answered_is_told() -> None:
    found = Policies(Policy(answered_by=Side.BRIDGE))
    found.are_missed = True

    with logging() as log:
        found.take([Policy(integration=ONE, answered_by=Side.V1)])

    assert [each["answered_by"] for each in log.lines("policy_changed")] == ["v1"]
