"""What the ops port answers: probes, metrics, registry, and to whom."""

from __future__ import annotations

import base64

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from broker.core.authentication import hash_token
from broker.core.settings import OpsSettings, Settings
from broker.core.traffic import MOST_LABELS
from broker.ops.pages import SECURITY_HEADERS, load_pages
from broker.ops.readiness import DRAINING, STARTING, Readiness
from broker.protocol.errors import ErrorCode, Reason
from tests.core.memory_mesh import TOKENS
from tests.ops.rig import Rig

TOKEN = "a-token-for-the-ops-port"


@pytest.fixture
def rig() -> Rig:
    return Rig()


# -- Probes ----------------------------------------------------------------------------------------


async def test_healthz(rig: Rig) -> None:
    rig.readiness.add("anything")
    response = await rig.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


async def test_readyz_says_why_not(rig: Rig) -> None:
    response = await rig.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, "reasons": []})
    rig.readiness.add(DRAINING)
    rig.readiness.add("redis is gone")
    response = await rig.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "reasons": ["draining", "redis is gone"]}
    rig.readiness.remove(DRAINING)
    rig.readiness.remove(DRAINING)
    assert rig.readiness.reasons == ["redis is gone"]


def test_a_broker_is_not_ready_before_it_says_so() -> None:
    readiness = Readiness()
    assert readiness.reasons == [STARTING]
    assert not readiness.ready
    readiness.remove(STARTING)
    assert readiness.ready


# -- Metrics ---------------------------------------------------------------------------------------


async def test_metrics_are_what_prometheus_reads(rig: Rig) -> None:
    web, work = rig.mesh.join("web"), rig.mesh.join("work")
    intent = {"target": "DIRECT", "identifier": work.id}
    web.send(op=0, id="1", event="E", intent=intent, timeout=1000)
    rig.mesh.now += 0.2
    work.send(op=5, id="1", data=1, intent={"target": "DIRECT", "identifier": web.id})
    web.send(op=0, id="2", event="E", intent={"target": "GROUP", "identifier": "nobody"})

    response = await rig.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parse_text(response.text)}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["switchboard_connections",] == 2
    for op in ("EVENT", "REPLY"):
        labels = ("op", op), ("target", "DIRECT")
        assert samples["switchboard_messages_received_total", *labels] == 1
    assert samples["switchboard_frames_refused_total", ("code", "NO_ROUTE")] == 1
    assert samples["switchboard_edge_requests_total", ("callee", "work"), ("caller", "web")] == 1
    assert samples["switchboard_request_duration_seconds_count",] == 1
    assert samples["switchboard_request_duration_seconds_sum",] == pytest.approx(0.2)
    assert samples["switchboard_request_duration_seconds_bucket", ("le", "0.25")] == 1
    assert samples["switchboard_request_duration_seconds_bucket", ("le", "0.1")] == 0
    assert families["switchboard_requests_in_flight"].type == "gauge"
    assert families["switchboard_request_duration_seconds"].type == "histogram"
    for family in families.values():
        assert family.documentation, family.name
        # Counters are called so, and nothing else is.
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


async def test_series_are_there_before_anything_has_happened(rig: Rig) -> None:
    text = (await rig.get("/metrics")).text
    for reason in Reason:
        assert f'switchboard_connections_closed_total{{reason="{reason}"}} 0.0' in text
    for code in ErrorCode:
        assert f'switchboard_requests_failed_total{{code="{code}"}} 0.0' in text
    for limit in ("outbox_bytes", "outboxes_bytes", "stall_ms"):
        assert f'switchboard_evictions_total{{limit="{limit}"}} 0.0' in text


async def test_openmetrics_for_who_asks_for_it(rig: Rig) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    response = await rig.get("/metrics", accept)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families = parse_openmetrics(response.text)  # type: ignore[no-untyped-call] # not ours
    names = {family.name for family in families}
    assert "switchboard_connections" in names


async def test_labels_are_bounded_whatever_names_clients_invent(rig: Rig) -> None:
    work = rig.mesh.join("work")
    for number in range(4 * MOST_LABELS):
        client = rig.mesh.join(f'<img src=x onerror="{number}">\n')
        intent = {"target": "DIRECT", "identifier": work.id}
        client.send(op=0, id="1", event=f"E{number}", intent=intent, timeout=1000)
        work.send(
            op=0, id="1", event=f"E{number}", intent={"target": "GROUP", "identifier": f"{number}"}
        )
    families = list(parse_text((await rig.get("/metrics")).text))
    series = sum(len(family.samples) for family in families)
    assert series < 250 + 2 * MOST_LABELS
    (edges,) = [family for family in families if family.name == "switchboard_edge_requests"]
    assert sum(sample.value for sample in edges.samples) == 4 * MOST_LABELS


async def test_without_metrics_the_counts_are_there_all_the_same() -> None:
    rig = Rig(Settings(tokens=TOKENS, ops=OpsSettings(metrics=False)))
    rig.mesh.join("web")
    text = (await rig.get("/metrics")).text
    assert "switchboard_connections 1.0" in text
    assert "switchboard_request_duration_seconds" not in text


# -- The registry and the counts -------------------------------------------------------------------


async def test_services(rig: Rig) -> None:
    assert (await rig.get("/services")).json() == {"services": []}
    clients = [rig.mesh.join("work", name=f"w{number}") for number in range(600)]
    services = (await rig.get("/services")).json()["services"]
    assert [service["id"] for service in services] == [client.id for client in clients]
    assert services[0]["name"] == "w0"
    assert services[0]["group"] == "work"
    assert services[0]["since"] == "2001-09-09T02:03:20.000+00:00"
    assert "let-me-in" not in str(services)


async def test_statistics(rig: Rig) -> None:
    rig.mesh.join("web")
    statistics = (await rig.get("/statistics")).json()
    assert statistics["identified"] == 1
    assert statistics["closed"] == {}


# -- Who may see it --------------------------------------------------------------------------------

CLOSED_PATHS = ["/", "/metrics", "/services", "/statistics", "/events", "/nowhere"]


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize("path", CLOSED_PATHS)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Digest {TOKEN}",
        TOKEN,
        basic("wrong"),
        "Basic !!!",
        "Basic /w==",
        f"Bearer {hash_token(TOKEN)}",
    ],
)
async def test_without_the_token_nothing_is_shown(path: str, authorization: str | None) -> None:
    rig = Rig(token_sha256=hash_token(TOKEN))
    headers = {} if authorization is None else {"Authorization": authorization}
    response = await rig.get(path, headers)
    assert response.status_code == 401
    challenges = response.headers.get_list("www-authenticate")
    assert [challenge.split()[0] for challenge in challenges] == ["Bearer", "Basic"]
    assert "switchboard_" not in response.text


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)])
async def test_with_the_token(authorization: str) -> None:
    rig = Rig(token_sha256=hash_token(TOKEN))
    response = await rig.get("/statistics", {"Authorization": authorization})
    assert response.status_code == 200
    # Whoever has the token is no page that lends its host name.
    response = await rig.get("/statistics", {"Authorization": authorization}, host="evil.example")
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_token_and_no_certain_host(path: str) -> None:
    rig = Rig(token_sha256=hash_token(TOKEN))
    assert (await rig.get(path)).status_code == 200
    assert (await Rig().get(path, host="10.1.2.3:8421")).status_code == 200
    assert (await Rig().get(path, host="evil.example")).status_code == 200


@pytest.mark.parametrize("path", CLOSED_PATHS)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8421", "localhost.evil.example", "127.0.0.1.evil.example"],
)
async def test_a_page_with_a_host_name_of_its_own_sees_nothing(path: str, host: str) -> None:
    response = await Rig().get(path, host=host)
    assert response.status_code == 403
    assert "ops.host_names" in response.text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8421", "LOCALHOST", "[::1]:8421", "10.0.0.7"]
)
async def test_hosts_that_are_this_machine(host: str) -> None:
    assert (await Rig().get("/statistics", host=host)).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/"])
async def test_nothing_can_be_changed(rig: Rig, method: str, path: str) -> None:
    response = await rig.get(path, method=method)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/services", "/events", "/"])
async def test_head_is_get_without_a_body(rig: Rig, path: str) -> None:
    response = await rig.get(path, method="HEAD")
    assert response.status_code == 200
    assert response.content == b""


# -- The page --------------------------------------------------------------------------------------


async def test_every_file_of_the_page_is_served_and_nothing_else(rig: Rig) -> None:
    pages = load_pages()
    assert pages["/"].content.startswith(b"<!doctype html>")
    assert "/dashboard.js" in pages
    for path, page in pages.items():
        response = await rig.get(path)
        assert response.content == page.content
        assert response.headers["content-type"] == page.media_type
    for path in ("/index.html", "/../app.py", "/..%2fapp.py", "/dashboard/", "/%2e%2e/app.py"):
        assert (await rig.get(path)).status_code == 404, path


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/services", "/nowhere"])
async def test_every_answer_keeps_browsers_on_a_short_leash(rig: Rig, path: str) -> None:
    response = await rig.get(path)
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value
    assert "unsafe" not in response.headers["content-security-policy"]
