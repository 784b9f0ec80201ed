"""Which client a User-Agent tells of, and what of it a log may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.agents import agent_of


@pytest.mark.parametrize(
    ("user_agent", "family"),
    [
        ("HaPi/1.0", "HaPi"),
        ("PHP/5.3.8", "PHP"),
        ("Java/1.6.0_20", "Java"),
        ("python-requests/2.31.0", "python-requests"),
        ("Python-urllib/2.7", "Python-urllib"),
        ("Ruby", "Ruby"),
        ("curl/7.19.7 (x86_64-redhat-linux-gnu) libcurl/7.19.7", "curl"),
        ("Harvest Sync (jane@doe.org)", "Harvest Sync"),
        ("My App v2.1", "My App"),
        ("Mozilla/5.0 (compatible; HarvestKit 1.0; http://x.example)", "HarvestKit"),
        ("Mozilla/4.0 (compatible; MSIE 6.0; MS Web Services Client Protocol 2.0)", "MSIE"),
        ("Mozilla/5.0 (Windows NT 6.1) AppleWebKit/537 (KHTML) Chrome/41.0 Safari/537", "Chrome"),
        ("Mozilla/5.0 (X11; rv:31.0) Gecko/2010 Firefox/31.0", "Firefox"),
        ("12.at.3aB4cD", None),
        ("jane@doe.org", None),
        ("<script>alert(1)</script>", None),
        ("", None),
        (None, None),
    ],
)
def test_the_family(user_agent: str | None, family: str | None) -> None:
    assert agent_of(user_agent).family == family


def test_a_token_is_none_of_its_words() -> None:
    assert agent_of("App/1 1234567.pt.aB3dE5fG7hI9").user_agent == "App/1 …"


@given(st.text(st.characters(), max_size=400))
def test_whatever_it_is_it_is_one_line_without_controls(user_agent: str) -> None:
    agent = agent_of(user_agent)

    assert (agent.user_agent is None) == (not user_agent)
    assert (agent.user_agent or "").isprintable()
    assert len(agent.user_agent or "") <= 200
    assert agent.family is None or (agent.family.isascii() and len(agent.family) <= 40)


def test_an_address_is_not_told() -> None:
    told = agent_of("App/1 (mailto:jane@doe.org) \x1b[31m")

    assert told.user_agent == "App/1 … \ufffd[31m"
