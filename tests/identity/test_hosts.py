"""Where a call comes from and where it goes (schemas/README.md, "Who is calling")."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.identity.hosts import Origin, for_a_log, network_of, origin, scheme, subdomain

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("::1/128"))
PROXY, STRANGER = "10.0.0.1", "192.0.2.7"


def lines(header: str | None) -> list[str]:
    """Split at a bar, which stands for the end of a header line."""
    return [] if header is None else header.split("|")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param(STRANGER, None, STRANGER, id="no proxy"),
        pytest.param(STRANGER, "198.51.100.1", STRANGER, id="a stranger says who he is"),
        pytest.param(PROXY, "198.51.100.1", "198.51.100.1", id="the proxy says"),
        pytest.param(PROXY, "6.6.6.6, 198.51.100.1", "198.51.100.1", id="a forged first hop"),
        pytest.param(PROXY, "198.51.100.1, 10.9.9.9", "198.51.100.1", id="two trusted proxies"),
        pytest.param(PROXY, "6.6.6.6|198.51.100.1", "198.51.100.1", id="a line of its own"),
        pytest.param(PROXY, "198.51.100.1:4711", "198.51.100.1", id="with a port"),
        pytest.param(PROXY, "[2001:db8::7]:4711", "2001:db8::7", id="IPv6 with a port"),
        pytest.param(PROXY, "2001:db8::7", "2001:db8::7", id="IPv6 without"),
        pytest.param(PROXY, "10.9.9.9", PROXY, id="trusted ones only"),
        pytest.param(PROXY, None, PROXY, id="the proxy says nothing"),
        pytest.param(PROXY, " , ", PROXY, id="empty hops"),
        pytest.param("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1", id="mapped into IPv6"),
        pytest.param("::1", "2001:db8::1", "2001:db8::1", id="IPv6"),
        pytest.param("", "198.51.100.1", "", id="no address at all"),
    ],
)
def test_the_address_is_that_of_the_last_hop_that_is_not_trusted(
    peer: str, forwarded_for: str | None, address: str
) -> None:
    assert origin(peer, "a", lines(forwarded_for), (), TRUSTED).network == network_of(address)


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[2001:DB8:0::7]:443", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7%eth0"),
        ("unknown", "unknown"),
        ("1:2:3", "1:2:3"),
    ],
)
def test_an_address_has_one_spelling(hop: str, address: str) -> None:
    assert origin("10.0.0.1", "a", [hop], (), TRUSTED).address == address
    assert origin(hop.partition("]")[0].lstrip("["), "a", (), (), ()).address == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:C000:207", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:DB8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("fe80::7%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("unix", "unix"),
        ("1:2", "1:2"),
        ("::1\0", "::1\0"),
        ("", ""),
    ],
)
def test_what_comes_from_one_place_is_counted_together(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_who_has_one_address_of_a_network_has_them_all(address: IPv6Address, other: int) -> None:
    neighbour = IPv6Address(int(address) >> 64 << 64 | other)

    assert network_of(str(address)) == network_of(str(neighbour)) or (
        address.ipv4_mapped or neighbour.ipv4_mapped
    )


@given(st.ip_addresses(v=4))
def test_an_address_of_ipv4_is_its_own_network_in_either_spelling(address: IPv4Address) -> None:
    assert network_of(str(address)) == network_of(f"::ffff:{address}") == str(address)


@pytest.mark.parametrize(
    ("peer", "forwarded_host", "host"),
    [
        (STRANGER, "evil.example", "asked.example"),
        (PROXY, "acme.example", "acme.example"),
        (PROXY, "evil.example, acme.example", "acme.example"),
        (PROXY, "evil.example|acme.example", "acme.example"),
        (PROXY, "", "asked.example"),
        (PROXY, None, "asked.example"),
    ],
)
def test_a_forwarded_host_counts_from_a_trusted_proxy(
    peer: str, forwarded_host: str | None, host: str
) -> None:
    assert origin(peer, "asked.example", (), lines(forwarded_host), TRUSTED).host == host


@pytest.mark.parametrize(
    ("peer", "forwarded_proto", "told"),
    [
        (STRANGER, "https", "http"),
        (PROXY, "https", "https"),
        (PROXY, "HTTPS", "https"),
        (PROXY, "http, https", "https"),
        (PROXY, "http|https", "https"),
        (PROXY, "gopher", "http"),
        (PROXY, "", "http"),
        (PROXY, None, "http"),
    ],
)
def test_a_forwarded_scheme_counts_from_a_trusted_proxy(
    peer: str, forwarded_proto: str | None, told: str
) -> None:
    assert scheme(peer, "http", lines(forwarded_proto), TRUSTED) == told


def test_without_a_proxy_the_scheme_is_that_of_the_connection() -> None:
    assert scheme(PROXY, "https", ["http"], ()) == "https"


@given(st.text(), st.lists(st.text()), st.lists(st.text()))
def test_who_is_not_trusted_cannot_say_anything(
    host: str, forwarded_for: list[str], forwarded_host: list[str]
) -> None:
    assert origin(STRANGER, host, forwarded_for, forwarded_host, TRUSTED) == Origin(
        STRANGER, host, STRANGER
    )


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("acme.harvestapp.com", "acme"),
        ("ACME.HarvestApp.com:443", "acme"),
        ("acme.harvestapp.com.", "acme"),
        ("acme.bridge.internal", "acme"),
        ("harvestapp.com", None),
        (".harvestapp.com", None),
        ("a.b.harvestapp.com", None),
        ("acme.harvestapp.com.evil.example", None),
        ("acmeharvestapp.com", None),
        ("127.0.0.1:8080", None),
        ("[::1]:8080", None),
        ("", None),
    ],
)
def test_the_subdomain_is_the_one_label_before_a_known_domain(host: str, label: str | None) -> None:
    assert subdomain(host, ("harvestapp.com", "bridge.internal")) == label


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("Bridge.Internal:8443", "bridge.internal"),
        ("harvestapp.com.", "harvestapp.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("[2001:DB8::1]:8080", "2001:db8::1"),
        ("[::1]", "::1"),
        ("[fe80::1%jane@doe.org]", "…"),
        ("", "…"),
        ("jane@doe.org", "…"),
        (f"1234567.pt.{'a' * 64}", "…"),
        (".".join(["a" * 60] * 5), "…"),
    ],
)
def test_of_a_host_name_a_log_has_what_can_be_nothing_else(host: str, told: str) -> None:
    assert for_a_log(host) == told
