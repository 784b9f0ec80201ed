"""deploy/kubernetes: valid, of settings that there are, probed where the bridge answers, and closed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
import yaml

from bridge.server.service import running
from bridge.settings import PREFIX, Settings, WrongSetting
from tests.support.deployed import (
    DEPLOY,
    HAND_FILLED,
    documents,
    in_the_environments_bin,
    loaded,
    needs,
    said_by,
)
from tests.support.kubernetes import SecretVolume
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import ScriptedUpstream

KUBERNETES = DEPLOY / "kubernetes"
BASE = KUBERNETES / "base"
PRODUCTION = KUBERNETES / "overlays" / "production"
OPERATOR = KUBERNETES / "components" / "prometheus-operator"

DATABASE = "postgresql://harvest_bridge:secret@db.database/harvest_bridge?sslmode=require"

VERSIONS = ("1.30.0", "1.37.0")
"""Of Kubernetes: the first that has `preStop.sleep` by default, and the newest with schemas."""

RESOURCES = {
    each["kind"]: each
    for file in sorted(BASE.glob("*.yaml"))
    for each in documents(file)
    if file.name != "kustomization.yaml"
}
DEPLOYMENT = RESOURCES["Deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(BRIDGE,) = POD["containers"]
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def settings_env() -> dict[str, str]:
    """Return the overlay's settings, as they are before anybody has filled them."""
    lines = (PRODUCTION / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def variables(**filled: str) -> dict[str, str]:
    """Return the variables of a pod, with what the operator has put in."""
    (base,) = documents(BASE / "kustomization.yaml")
    (generated,) = base["configMapGenerator"]
    common = dict(literal.split("=", 1) for literal in generated["literals"])
    own = dict.fromkeys((each["name"] for each in BRIDGE["env"]), DATABASE)
    return {
        **common,
        **settings_env(),
        **own,
        **{PREFIX + name: text for name, text in filled.items()},
    }


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    return loaded(variables(**HAND_FILLED), monkeypatch)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an operator who has put in the secrets."""
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(KUBERNETES, folder, ignore=shutil.ignore_patterns("secrets"))
    secrets = folder / "overlays" / "production" / "secrets"
    secrets.mkdir()
    for name in ("admin-token", "database-key", "database-url"):
        (secrets / name).write_text(f"{name}\n")
    return folder


def built(folder: Path) -> list[Any]:
    return list(yaml.safe_load_all(said_by("kubectl", "kustomize", folder)))


@needs("kubectl")
@pytest.mark.parametrize("folder", ["base", "overlays/production"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_kustomize_builds_is_what_kubernetes_allows(
    filled: Path, tmp_path: Path, folder: str, version: str
) -> None:
    file = tmp_path / "built.yaml"
    file.write_text(said_by("kubectl", "kustomize", filled / folder))
    check = in_the_environments_bin("kubernetes-validate")
    said_by(check, "--strict", "--quiet", "--kubernetes-version", version, file)


@pytest.fixture(scope="module")
def resources(filled: Path) -> dict[tuple[str, str], Any]:
    """What is applied in production, by kind and name."""
    found = built(filled / "overlays" / "production")
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


@needs("kubectl")
class TestProduction:
    def test_has_all_it_takes(self, resources: dict[tuple[str, str], Any]) -> None:
        assert {kind for kind, _ in resources} == {
            "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy",
            "PodDisruptionBudget", "PrometheusRule", "Secret", "Service", "ServiceAccount",
            "ServiceMonitor",
        }  # fmt: skip
        assert {each["metadata"]["namespace"] for each in resources.values()} == {"harvest-bridge"}

    def test_sets_the_image_tag(self, resources: dict[tuple[str, str], Any]) -> None:
        spec = resources["Deployment", "harvest-bridge"]["spec"]["template"]["spec"]
        _, _, tag = spec["containers"][0]["image"].rpartition(":")
        assert tag == "0.1.0"

    def test_names_the_settings_that_are_generated(
        self, resources: dict[tuple[str, str], Any]
    ) -> None:
        spec = resources["Deployment", "harvest-bridge"]["spec"]["template"]["spec"]
        (source,) = spec["containers"][0]["envFrom"]
        data = resources["ConfigMap", source["configMapRef"]["name"]]["data"]
        assert {*data, f"{PREFIX}DATABASE"} == variables().keys()

    def test_has_every_secret_that_is_asked_for(
        self, resources: dict[tuple[str, str], Any]
    ) -> None:
        (secret,) = (each for (kind, _), each in resources.items() if kind == "Secret")
        spec = resources["Deployment", "harvest-bridge"]["spec"]["template"]["spec"]
        (bridge,) = spec["containers"]
        reference = bridge["env"][0]["valueFrom"]["secretKeyRef"]
        mounted, _ = (each["secret"] for each in spec["volumes"] if "secret" in each)
        monitor = resources["ServiceMonitor", "harvest-bridge"]["spec"]["endpoints"][0]
        token = monitor["authorization"]["credentials"]
        names = {secret["metadata"]["name"]}
        assert names == {reference["name"], mounted["secretName"], token["name"]}
        keys = {reference["key"], token["key"], *(item["key"] for item in mounted["items"])}
        assert keys == secret["data"].keys()

    def test_is_not_built_before_the_secrets_are_there(self, tmp_path: Path) -> None:
        shutil.copytree(KUBERNETES, tmp_path / "k", ignore=shutil.ignore_patterns("secrets"))
        with pytest.raises(AssertionError, match="secrets/admin-token"):
            built(tmp_path / "k" / "overlays" / "production")


def test_every_variable_is_a_setting_that_the_loader_takes(settings: Settings) -> None:
    assert settings.database == DATABASE
    assert not settings.admin_is_on_loopback


@pytest.mark.parametrize("name", HAND_FILLED)
def test_a_bridge_refuses_to_start_before_its_operator_has_put_something_in(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WrongSetting, match=f"{name.lower()}: a placeholder stands here"):
        loaded(variables(**{**HAND_FILLED, name: settings_env()[PREFIX + name]}), monkeypatch)


def test_every_file_that_a_setting_names_is_mounted(settings: Settings) -> None:
    mounts = {each["name"]: each["mountPath"] for each in BRIDGE["volumeMounts"]}
    volumes = {each["name"]: each.get("secret") for each in POD["volumes"]}
    tls = {"tls.crt", "tls.key"}  # of each Secret of type kubernetes.io/tls
    there = {
        f"{mounts[name]}/{file}"
        for name, secret in volumes.items()
        if secret is not None
        for file in (tls if "items" not in secret else (item["path"] for item in secret["items"]))
    }
    assert settings.admin_bearer_token is not None
    assert there == {
        settings.admin_bearer_token.removeprefix("file:"),
        str(settings.database_key),
        str(settings.tls_certificate),
        str(settings.tls_key),
    }


async def test_a_bridge_runs_with_what_a_pod_has(
    settings: Settings, upstream: ScriptedUpstream, postgres: str, tmp_path: Path
) -> None:
    """Secrets as they are mounted, the database, TLS on both sides, and what asks the admin side."""
    mounted = {each["name"]: each for each in POD["volumes"]}
    issued = trustme.CA().issue_cert(LOOPBACK)
    token = "a" * 64
    token_file = {"admin-token": f"{token}\n"}
    secrets = SecretVolume(tmp_path / "secrets", **token_file, **{"database-key": f"{'0' * 64}\n"})
    certificate = issued.cert_chain_pems[0].bytes().decode()
    key = issued.private_key_pem.bytes().decode()
    tls = SecretVolume(tmp_path / "tls", **{"tls.crt": certificate, "tls.key": key})
    assert {mounted[each]["secret"]["defaultMode"] for each in ("secrets", "tls")} == {0o440}
    in_the_pod = {
        "host": LOOPBACK, "port": 0, "admin_port": 0, "upstream": upstream.base_url,
        "database": postgres, "journal": tmp_path / "not-used.sqlite",
        "database_key": secrets / "database-key",
        "admin_bearer_token": f"file:{secrets / 'admin-token'}",
        "tls_certificate": tls / "tls.crt", "tls_key": tls / "tls.key",
    }  # fmt: skip
    async with (
        running(settings.model_copy(update=in_the_pod)) as service,
        aiohttp.ClientSession(f"https://{LOOPBACK}:{service.admin_port}") as session,
    ):
        for probe in PROBES:
            path = BRIDGE[probe]["httpGet"]["path"]
            async with session.get(path, ssl=False) as response:
                assert response.status == 200, probe
        for shown, status in ((token, 200), ("b" * 64, 401)):
            headers = {"Authorization": f"Bearer {shown}"}
            async with session.get("/metrics", ssl=False, headers=headers) as response:
                assert response.status == status
    assert not (tmp_path / "not-used.sqlite").exists()


def test_ports_are_those_that_the_bridge_listens_on(settings: Settings) -> None:
    ports = {each["name"]: each["containerPort"] for each in BRIDGE["ports"]}
    assert ports == {"https": settings.port, "admin": settings.admin_port}
    named = [port["targetPort"] for service in services() for port in service["spec"]["ports"]]
    asked = [port["port"] for rule in network_policy()["ingress"] for port in rule["ports"]]
    assert set(named) == set(asked) == ports.keys()


async def test_probes_ask_what_a_running_bridge_answers(upstream: ScriptedUpstream) -> None:
    async with (
        running_service(upstream.base_url, account_id=1000) as (service, _),
        aiohttp.ClientSession(f"http://{LOOPBACK}:{service.admin_port}") as session,
    ):
        for probe in PROBES:
            async with session.get(BRIDGE[probe]["httpGet"]["path"]) as response:
                assert response.status == 200, probe


async def test_readiness_excludes_checks_that_there_are(upstream: ScriptedUpstream) -> None:
    query = urlsplit(BRIDGE["readinessProbe"]["httpGet"]["path"]).query
    excluded = {pair.removeprefix("exclude=") for pair in query.split("&")}
    async with (
        running_service(upstream.base_url, account_id=1000) as (service, _),
        aiohttp.ClientSession(f"http://{LOOPBACK}:{service.admin_port}") as session,
        session.get("/readyz") as response,
    ):
        assert excluded <= (await response.json())["checks"].keys()


def test_probes_speak_tls_on_the_admin_side_as_the_bridge_does(settings: Settings) -> None:
    assert settings.tls_certificate is not None
    for probe in PROBES:
        asks = BRIDGE[probe]["httpGet"]
        assert (asks["port"], asks["scheme"]) == ("admin", "HTTPS")


def test_a_pod_has_the_time_to_stop_that_calls_are_promised(settings: Settings) -> None:
    before = BRIDGE["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] >= before + settings.stop_timeout + 10


def test_the_user_is_that_of_the_image() -> None:
    user = (DEPLOY / "Dockerfile").read_text().partition("USER ")[2].split()[0]
    security = POD["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == user
    assert security["fsGroup"] == security["runAsGroup"]


def test_a_bridge_keeps_nothing_in_its_pod() -> None:
    written = {each["name"] for each in POD["volumes"] if "emptyDir" in each}
    mounts = {each["name"]: each["mountPath"] for each in BRIDGE["volumeMounts"]}
    assert [mounts[each] for each in written] == ["/tmp"]


def test_secrets_are_readable_to_the_bridges_group_and_nobody_else() -> None:
    modes = [each["secret"]["defaultMode"] for each in POD["volumes"] if "secret" in each]
    assert modes == [0o440, 0o440]


def test_a_pod_may_do_nothing_that_it_need_not() -> None:
    assert BRIDGE["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False


def test_variables_of_services_are_not_taken_for_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert POD["enableServiceLinks"] is False
    linked = {f"{PREFIX}PORT": "tcp://10.0.0.7:443"}
    with pytest.raises(WrongSetting, match="enableServiceLinks"):
        loaded({**variables(**HAND_FILLED), **linked}, monkeypatch)


def test_every_selector_selects_these_pods_and_no_others() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    assert labels

    def selectors() -> Iterator[Any]:
        yield DEPLOYMENT["selector"]["matchLabels"]
        yield RESOURCES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
        yield network_policy()["podSelector"]["matchLabels"]
        for service in services():
            yield service["spec"]["selector"]
        for spread in POD["topologySpreadConstraints"]:
            yield spread["labelSelector"]["matchLabels"]

    assert all(each == labels for each in selectors())


def test_prometheus_gets_the_alerts_that_are_tested() -> None:
    (rule,) = documents(OPERATOR / "prometheus-rule.yaml")
    (rules,) = documents(DEPLOY / "prometheus" / "rules.yml")
    assert rule["spec"] == rules


def test_prometheus_calls_the_job_as_the_alerts_do() -> None:
    (monitor,) = documents(OPERATOR / "service-monitor.yaml")
    (admin,) = (each for each in services() if each["metadata"]["name"].endswith("-admin"))
    (base,) = documents(BASE / "kustomization.yaml")
    labels = {**base["labels"][0]["pairs"], **admin["metadata"]["labels"]}
    assert labels[monitor["spec"]["jobLabel"]] == "harvest-bridge"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def services() -> list[Any]:
    return documents(BASE / "services.yaml")


def network_policy() -> Any:
    return RESOURCES["NetworkPolicy"]["spec"]
