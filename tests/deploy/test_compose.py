"""deploy/compose.yaml: valid, hardened, of settings that there are, and closed to the outside."""

import os
import re
import stat
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployed import (
    DEPLOY,
    HAND_FILLED,
    documents,
    in_the_environments_bin,
    loaded,
    needs,
    said_by,
)

(COMPOSE,) = documents(DEPLOY / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
BRIDGES = {name: each for name, each in SERVICES.items() if name.startswith("bridge-")}


def settings_of(bridge: str) -> dict[str, str]:
    """Return the variables of a bridge, with what the operator has put in."""
    filled = {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: HAND_FILLED[found[1]], value)
        for name, value in SERVICES[bridge]["environment"].items()
    }
    assert not [value for value in filled.values() if "$" in value]
    return filled


def networks_of(service: str) -> set[str]:
    return set(SERVICES[service]["networks"])


def test_the_file_is_what_the_compose_specification_allows() -> None:
    check = in_the_environments_bin("check-jsonschema")
    said_by(check, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


@pytest.mark.parametrize("bridge", BRIDGES)
def test_every_variable_is_a_setting_that_the_loader_takes(
    bridge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loaded(settings_of(bridge), monkeypatch)

    assert settings.database.startswith("postgresql://")
    assert not settings.admin_is_on_loopback


def test_there_are_two_bridges_that_differ_in_nothing_but_their_addresses() -> None:
    one, two = (dict(each) for each in BRIDGES.values())
    for each in (one, two):
        del each["networks"]
    assert one == two


@pytest.mark.parametrize("bridge", BRIDGES)
def test_a_bridge_keeps_nothing_in_its_container(bridge: str) -> None:
    assert "volumes" not in BRIDGES[bridge]
    assert [mount.partition(":")[0] for mount in BRIDGES[bridge]["tmpfs"]] == ["/tmp"]


def test_who_must_put_something_in_is_told_so() -> None:
    asked = re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text())
    assert set(asked) == HAND_FILLED.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_hardened_bounded_and_checked(service: str) -> None:
    facts = SERVICES[service]
    assert facts["read_only"] is True
    assert facts["cap_drop"] == ["ALL"]
    assert facts["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= facts.keys()
    # The bridges' check is the image's own.
    assert "healthcheck" in facts or service in BRIDGES


def test_only_the_front_is_open_to_others() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert published.pop("front") == ["443:443"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_only_bridges_reach_v2_and_only_they_reach_the_database() -> None:
    def members(network: str) -> set[str]:
        return {name for name in SERVICES if network in networks_of(name)}

    assert members("out") == set(BRIDGES)
    assert members("data") == {*BRIDGES, "database"}
    assert networks_of("database") == {"data"}
    inside = {name for name, each in COMPOSE["networks"].items() if each.get("internal")}
    assert inside == {"calls", "data", "metrics"}


def test_who_is_trusted_is_the_front_and_prometheus_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trusted = loaded(settings_of("bridge-1"), monkeypatch).trusted_proxies
    theirs = [
        SERVICES["front"]["networks"]["calls"]["ipv4_address"],
        SERVICES["prometheus"]["networks"]["metrics"]["ipv4_address"],
    ]
    assert [str(each) for each in trusted] == [f"{address}/32" for address in theirs]


def test_addresses_are_in_their_networks_and_given_to_nobody_else() -> None:
    given = []
    for service in SERVICES:
        networks = SERVICES[service]["networks"]
        for name, facts in networks.items() if isinstance(networks, dict) else ():
            if "ipv4_address" in facts:
                (ipam,) = COMPOSE["networks"][name]["ipam"]["config"]
                address = ip_address(facts["ipv4_address"])
                assert address in ip_network(ipam["subnet"])
                assert address not in ip_network(ipam["ip_range"])
                given.append(address)
    assert len(set(given)) == len(given)


def test_the_front_is_told_what_its_file_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = SERVICES["front"]["environment"]
    asked = re.findall(r"presetenv (\w+)", (DEPLOY / "haproxy" / "haproxy.cfg").read_text())
    assert told.keys() <= set(asked)
    for number, (name, facts) in enumerate(BRIDGES.items(), 1):
        address = facts["networks"]["calls"]["ipv4_address"]
        settings = loaded(settings_of(name), monkeypatch)
        assert told[f"BRIDGE_{number}"] == f"{address}:{settings.port}"
        assert told[f"ADMIN_{number}"] == f"{address}:{settings.admin_port}"


@needs("haproxy")
def test_the_fronts_file_is_good_with_what_it_is_told(tmp_path: Path) -> None:
    certificate = tmp_path / "front.pem"
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a.test"
    said_by(*making.split(), "-keyout", tmp_path / "key", "-out", tmp_path / "crt")
    certificate.write_text((tmp_path / "crt").read_text() + (tmp_path / "key").read_text())
    told = {**SERVICES["front"]["environment"], "CERTIFICATE": str(certificate)}
    variables = [f"{name}={value}" for name, value in told.items()]
    said_by("env", *variables, "haproxy", "-c", "-f", DEPLOY / "haproxy" / "haproxy.cfg")


def test_a_bridge_has_the_time_to_stop_that_calls_are_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, facts in BRIDGES.items():
        grace = float(facts["stop_grace_period"].removesuffix("s"))
        assert grace >= loaded(settings_of(name), monkeypatch).stop_timeout + 10


def test_every_secret_is_mounted_where_it_is_looked_for() -> None:
    for name, facts in SERVICES.items():
        text = " ".join(map(str, facts.get("environment", {}).values()))
        if name == "prometheus":
            text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        looked_for = set(re.findall(r"/run/secrets/([\w.-]+)", text))
        assert looked_for == set(facts.get("secrets", ())), name


def test_every_mounted_file_is_there() -> None:
    mounts = [mount for each in SERVICES.values() for mount in each.get("volumes", ())]
    for source, *_ in (mount.split(":") for mount in mounts):
        if source.startswith("."):
            assert (DEPLOY / source).exists()
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, so it takes root")
@needs("openssl")
class TestSecrets:
    def made(self, folder: Path) -> dict[str, Path]:
        said_by("sh", DEPLOY / "compose-secrets.sh", folder)
        return {path.name: path for path in folder.iterdir()}

    def test_are_all_made_for_the_bridges_group_and_nobody_else(self, tmp_path: Path) -> None:
        made = self.made(tmp_path / "secrets")

        assert made.keys() == COMPOSE["secrets"].keys()
        for name, path in made.items():
            status = path.stat()
            assert (status.st_uid, status.st_gid) == (10001, 10001)
            users = [each for each, facts in SERVICES.items() if name in facts.get("secrets", ())]
            shared = set(users) - set(BRIDGES)
            assert stat.S_IMODE(status.st_mode) == (0o440 if shared else 0o400), name

    def test_stay_when_they_are_made_again(self, tmp_path: Path) -> None:
        before = {name: path.read_text() for name, path in self.made(tmp_path).items()}
        after = {name: path.read_text() for name, path in self.made(tmp_path).items()}

        assert before == after

    def test_of_the_database_are_one_password(self, tmp_path: Path) -> None:
        made = self.made(tmp_path)
        *_, password = made["pgpass"].read_text().strip().split(":")

        assert password == made["database-password"].read_text().strip()
        assert len(password) == 64
