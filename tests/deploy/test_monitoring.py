"""deploy/prometheus and deploy/grafana: each alert tried, and every metric one that there is."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.certificates import put_in_place
from tests.support.deployed import DEPLOY, documents, needs, said_by
from tests.support.gateways import free_port
from tests.support.running import LOOPBACK, running_service
from tests.support.upstream import ScriptedUpstream, page
from tests.support.writing import SEND, hello

PROMETHEUS, GRAFANA = DEPLOY / "prometheus", DEPLOY / "grafana"

(RULES,) = documents(PROMETHEUS / "rules.yml")
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
(CASES,) = documents(PROMETHEUS / "rules_test.yml")
DASHBOARD = json.loads((GRAFANA / "dashboards" / "harvest-bridge.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
(SOURCES,) = documents(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")

OF_PROMETHEUS = {"up", "ALERTS"}
"""What Prometheus itself knows."""

VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}
"""What Grafana puts into a query."""


def queries_of_the_dashboard() -> Iterator[str]:
    yield from (target["expr"] for panel in PANELS for target in panel["targets"])
    yield from (each["expr"] for each in DASHBOARD["annotations"]["list"])
    for variable in DASHBOARD["templating"]["list"]:
        if isinstance(variable["query"], dict):
            yield re.findall(r"label_values\((.*), \w+\)", variable["query"]["query"])[0]


def selectors(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Return each metric that a query names, with the values that it asks labels to have."""
    for name, labels in re.findall(r"(?<![\w$])([a-zA-Z_]\w*)\{(.*?)\}", query):
        yield name, dict(re.findall(r'(\w+)=~?"(.*?)"', labels))


@needs("promtool")
def test_promtool_finds_no_fault_with_the_configuration(tmp_path: Path) -> None:
    text = (PROMETHEUS / "prometheus.yml").read_text()
    token = tmp_path / "token"
    token.touch()
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/run/secrets/admin-token", str(token)))
    (tmp_path / "rules.yml").write_bytes((PROMETHEUS / "rules.yml").read_bytes())
    said_by("promtool", "check", "config", config)


@needs("promtool")
def test_promtool_finds_no_fault_with_the_rules() -> None:
    said = said_by("promtool", "check", "rules", PROMETHEUS / "rules.yml")
    assert f"{len(ALERTS)} rules found" in said


@needs("promtool")
def test_every_alert_fires_when_it_has_to_and_keeps_still_otherwise() -> None:
    said_by("promtool", "test", "rules", PROMETHEUS / "rules_test.yml")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tried_both_ways(alert: str) -> None:
    tried = [
        bool(each["exp_alerts"])
        for case in CASES["tests"]
        for each in case["alert_rule_test"]
        if each["alertname"] == alert
    ]
    assert sorted(tried) == [False, True]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_bad_it_is_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook_url"] == f"deploy/README.md#{alert.lower()}"


GUIDE = DEPLOY / "README.md"


@pytest.mark.skipif(not GUIDE.exists(), reason="there is no deploy/README.md")
@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_its_entry_among_the_operations(alert: str) -> None:
    headings = re.findall(r"^#+ `?(\w+)`?$", GUIDE.read_text(), re.MULTILINE)
    assert alert in headings


async def test_every_metric_that_is_asked_for_is_one_that_a_bridge_has(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    certificate, key = put_in_place(trustme.CA().issue_cert(LOOPBACK), tmp_path)
    async with running_service(
        upstream.base_url, account_id=1000, tls_certificate=certificate, tls_key=key
    ) as (service, _):
        with_a_certificate = await scraped(service.admin_port)
    async with running_service(upstream.base_url, account_id=1000) as (service, client):
        upstream.says(page(hello()))
        await client.get(SEND)
        after_a_call = await scraped(service.admin_port)

    metrics, labels = families(with_a_certificate + "\n" + after_a_call)
    queries = [*(rule["expr"] for rule in ALERTS.values()), *queries_of_the_dashboard()]
    asked = [each for query in queries for each in selectors(query)]
    assert len(asked) >= len(queries)
    for name, wanted in asked:
        if name in OF_PROMETHEUS:
            continue
        assert name in metrics
        known = labels.get(name)
        assert known is None or wanted.keys() <= known | {"job", "instance"}, name


async def scraped(port: int) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}/metrics") as response,
    ):
        return await response.text()


def families(text: str) -> tuple[set[str], dict[str, set[str]]]:
    """Return the names that a query may have, and the labels of those that have a sample yet."""
    names: set[str] = set()
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
        for sample in family.samples:
            names.add(sample.name)
            labels.setdefault(sample.name, set()).update(sample.labels)
    return names, labels


@needs("prometheus")
async def test_prometheus_itself_sees_a_bridge_by_this_configuration(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(f"{'a' * 64}\n")
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    port = free_port()
    # As in the composition: off the loopback, in the clear, from an address that is trusted.
    as_composed = {
        "admin_host": "0.0.0.0",
        "admin_bearer_token": f"file:{token}",
        "trusted_proxies": (LOOPBACK,),
    }
    async with running_service(upstream.base_url, account_id=1000, **as_composed) as (service, _):
        (config,) = documents(PROMETHEUS / "prometheus.yml")
        (job,) = config["scrape_configs"]
        job["authorization"]["credentials_file"] = str(token)
        job["static_configs"] = [{"targets": [f"{LOOPBACK}:{service.admin_port}"]}]
        config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        prometheus = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={LOOPBACK}:{port}",
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with aiohttp.ClientSession(f"http://{LOOPBACK}:{port}") as session:

                async def asked(query: str) -> list[Any]:
                    with suppress(aiohttp.ClientError):
                        async with session.get("/api/v1/query", params={"query": query}) as answer:
                            found = (await answer.json()).get("data", {}).get("result", [])
                            return [each["value"][1] for each in found]
                    return []

                while await asked('up{job="harvest-bridge"}') != ["1"]:
                    pass  # the test's own timeout is the limit
                assert await asked("count(harvest_bridge_build_info)") == ["1"]
                async with session.get("/api/v1/rules") as answer:
                    groups = (await answer.json())["data"]["groups"]
        finally:
            prometheus.terminate()
            await prometheus.wait()
    assert {rule["name"] for group in groups for rule in group["rules"]} == ALERTS.keys()
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}


@needs("promtool")
def test_promtool_finds_no_fault_with_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    found = []
    for number, query in enumerate(queries_of_the_dashboard()):
        asked = reduce(lambda text, pair: text.replace(*pair), VARIABLES.items(), query)
        assert "$" not in asked
        found.append({"record": f"panel:{number}", "expr": asked})
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": found}]}))
    said_by("promtool", "check", "rules", file)


class TestTheDashboard:
    def test_has_what_grafana_tells_panels_apart_by(self) -> None:
        numbers = [panel["id"] for panel in DASHBOARD["panels"]]
        titles = [panel["title"] for panel in DASHBOARD["panels"]]
        assert len(set(numbers)) == len(set(titles)) == len(numbers)

    def test_has_panels_that_lie_beside_each_other(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in DASHBOARD["panels"]:
            at = panel["gridPos"]
            own = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert at["x"] + at["w"] <= 24
            assert not taken & own, panel["title"]
            taken |= own

    def test_asks_the_source_that_is_provisioned(self) -> None:
        (source,) = SOURCES["datasources"]
        (variable,) = (v for v in DASHBOARD["templating"]["list"] if v["type"] == "datasource")
        assert variable["query"] == source["type"]
        asked = [panel["datasource"] for panel in PANELS]
        asked += [target["datasource"] for panel in PANELS for target in panel["targets"]]
        assert {json.dumps(each) for each in asked} == {
            json.dumps({"type": source["type"], "uid": f"${{{variable['name']}}}"})
        }

    def test_is_where_the_provider_looks_for_it(self) -> None:
        (providers,) = documents(GRAFANA / "provisioning" / "dashboards" / "harvest-bridge.yml")
        (provider,) = providers["providers"]
        (compose,) = documents(DEPLOY / "compose.yaml")
        mounts: list[Any] = compose["services"]["grafana"]["volumes"]
        assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts

    def test_shows_each_metric_that_an_alert_is_about(self) -> None:
        shown = {name for query in queries_of_the_dashboard() for name, _ in selectors(query)}
        alerted = {name for rule in ALERTS.values() for name, _ in selectors(rule["expr"])}
        assert alerted <= shown
