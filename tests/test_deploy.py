"""examples/deploy/, held against the code: options, ports, paths, names and times are right."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from configparser import RawConfigParser
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from broker.core.settings import (
    DEFAULT_OPS_PORT,
    DEFAULT_PORT,
    LimitSettings,
    Settings,
    TimingSettings,
)
from broker.exposure import exposures
from broker.settings_loader import TOKEN_VARIABLE, load_settings
from services.cli.main import main

ROOT: Final = Path(__file__).parent.parent
DEPLOY: Final = ROOT / "examples" / "deploy"

# What a client needs that reads the token and the URL from the environment.
CLIENT_VARIABLES: Final = {"SWITCHBOARD_URL", TOKEN_VARIABLE}


def parse(words: Sequence[str]) -> dict[str, Any]:
    """What `switchboard` makes of a command line; it fails where there is no such option."""
    assert words[0].rpartition("/")[2] == "switchboard"
    command = main.get_command(click.Context(main), words[1])
    assert command is not None, words
    return command.make_context(words[1], list(words[2:])).params


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)s?", text)
    assert found, text
    return float(found[1])


def stopping_takes(timing: TimingSettings) -> float:
    """Seconds from SIGTERM to the end, at most."""
    return (timing.grace_ms + timing.drain_ms) / 1000


# -- systemd ---------------------------------------------------------------------------------------


class Unit(RawConfigParser):
    """A unit file. Options may come several times; `all_of` has every one."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.text = path.read_text()
        self.read_string(self.text)

    def all_of(self, option: str) -> list[str]:
        return re.findall(rf"^{option}=(.*)$", self.text, re.MULTILINE)


@pytest.fixture(scope="module")
def service() -> Unit:
    return Unit(DEPLOY / "switchboard.service")


@pytest.fixture(scope="module")
def sock() -> Unit:
    return Unit(DEPLOY / "switchboard.socket")


@pytest.fixture(scope="module")
def toml() -> Settings:
    return load_settings(DEPLOY / "broker.toml", {})


def test_the_configuration_is_fit_to_serve(toml: Settings) -> None:
    assert exposures(toml, environment_token=None, made_up=False) == []
    assert toml.ops.host_and_port == ("127.0.0.1", DEFAULT_OPS_PORT)


def test_the_tls_listener_that_is_commented_out_is_right_too(tmp_path: Path) -> None:
    text = (DEPLOY / "broker.toml").read_text()
    shown = re.sub(r"^# (?=\[\[listeners|address|certificate|key)", "", text, flags=re.MULTILINE)
    (tmp_path / "broker.toml").write_text(shown)
    _, tls = load_settings(tmp_path / "broker.toml", {}).listeners
    assert tls.tls
    port = tls.tcp_address[1] if tls.tcp_address else 0
    assert f"#ListenStream=0.0.0.0:{port}" in (DEPLOY / "switchboard.socket").read_text()
    for file in (tls.certificate, tls.key):
        name = str(file).rpartition("/")[2]
        assert str(file).startswith("/run/credentials/switchboard.service/")
        assert f"#LoadCredential={name}:" in (DEPLOY / "switchboard.service").read_text()


def test_the_socket_has_the_address_of_the_configuration(sock: Unit, toml: Settings) -> None:
    assert [f"tcp://{one}" for one in sock.all_of("ListenStream")] == [
        listener.address for listener in toml.listeners
    ]
    assert sock["Socket"]["Accept"] == "no"


def test_the_service_runs_what_there_is(service: Unit) -> None:
    unit = service["Service"]
    start = parse(shlex.split(unit["ExecStart"]))
    check = parse(shlex.split(unit["ExecStartPre"]))
    assert start["config"] == check["file"]
    assert f"install -D -m 644 examples/deploy/broker.toml {start['config']}" in service.text
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit["Type"] == "notify"


def test_the_service_has_time_to_stop_and_room_for_connections(
    service: Unit, toml: Settings
) -> None:
    unit = service["Service"]
    assert seconds(unit["TimeoutStopSec"]) > stopping_takes(toml.timing) + 1
    assert int(unit["LimitNOFILE"]) > LimitSettings().connections + 1000


def test_the_service_is_confined(service: Unit) -> None:
    unit = service["Service"]
    for option, value in (
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
    ):
        assert unit[option] == value
    # `os.getpid`'s notify socket, and listeners of every kind.
    assert unit["RestrictAddressFamilies"].split() == ["AF_INET", "AF_INET6", "AF_UNIX"]


def test_files_that_the_units_name_are_there(service: Unit) -> None:
    for name in re.findall(r"examples/deploy/[\w.]+", service.text):
        assert (ROOT / name).is_file(), name


# -- the image -------------------------------------------------------------------------------------

Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def dockerfile() -> list[list[Instruction]]:
    """The instructions, stage by stage."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    stages: list[list[Instruction]] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            stages.append([])
        stages[-1].append((instruction, rest.strip()))
    return stages


def values(stage: list[Instruction], instruction: str) -> list[str]:
    return [rest for name, rest in stage if name == instruction]


def exec_form(text: str) -> list[str]:
    words: list[str] = json.loads(text)
    return words


def test_what_is_copied_is_there_and_not_ignored(dockerfile: list[list[Instruction]]) -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text()
    for stage in dockerfile:
        for copy in values(stage, "COPY"):
            if copy.startswith("--from="):
                continue
            *sources, _ = copy.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"\n!{source}\n" in ignored, source


def test_the_package_finds_all_that_it_is_built_of(dockerfile: list[list[Instruction]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = " ".join(values(dockerfile[0], "COPY")).split()
    for name in ("pyproject.toml", project["readme"], *project["license-files"]):
        assert name in copied
    assert {"broker", "services"} <= set(copied)
    for stage in dockerfile:
        found = re.match(r"python:3\.(\d+)-slim", values(stage, "FROM")[0])
        least = re.fullmatch(r">=3\.(\d+)", project["requires-python"])
        assert least
        assert found is None or int(found[1]) >= int(least[1])


def test_the_image_is_nobody_and_says_how_it_is(dockerfile: list[list[Instruction]]) -> None:
    _, image, services, last = dockerfile
    assert values(last, "FROM") == ["broker"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", values(image, "USER")[0])
    assert values(image, "EXPOSE") == [f"{DEFAULT_PORT} {DEFAULT_OPS_PORT}"]
    command = exec_form(values(image, "ENTRYPOINT")[0]) + exec_form(values(image, "CMD")[0])
    assert parse(command)["config"] is None
    options, _, probe = values(image, "HEALTHCHECK")[0].partition("CMD ")
    patience = parse(exec_form(probe))["timeout"]
    [limit] = re.findall(r"--timeout=(\d+)s", options)
    assert patience < float(limit)
    module = exec_form(values(services, "CMD")[0])[0]
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


# -- compose ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_the_services_of_compose_run_what_there_is(
    compose: dict[str, Any], dockerfile: list[list[Instruction]]
) -> None:
    services = compose["services"]
    targets = {values(stage, "FROM")[0].rpartition(" ")[2] for stage in dockerfile}
    for name, one in services.items():
        kind, *probe = one["healthcheck"]["test"]
        assert kind == "CMD"
        assert parse(probe)["timeout"] < seconds(one["healthcheck"]["timeout"])
        assert set(one["environment"]) <= CLIENT_VARIABLES
        for other in one.get("depends_on", {}):
            assert other in services
        if "build" in one:
            build = one["build"]
            assert (DEPLOY / build["context"]).resolve() == ROOT
            assert (ROOT / build["dockerfile"]).is_file()
            assert build["target"] in targets
        if name != "broker":
            [module] = one["command"]
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
            assert one["environment"]["SWITCHBOARD_URL"] == f"ws://broker:{DEFAULT_PORT}"


def test_the_broker_of_compose(compose: dict[str, Any]) -> None:
    one = compose["services"]["broker"]
    said = parse(["switchboard", *one["command"]])
    assert said["listen"] == (f"tcp://0.0.0.0:{DEFAULT_PORT}",)
    settings = load_settings(None, {TOKEN_VARIABLE: "x" * 64}, listen=said["listen"])
    # It has to say --insecure, and nobody else can reach the network.
    assert exposures(settings, environment_token="x" * 64, made_up=False)
    assert said["insecure"]
    assert compose["networks"] == {"mesh": {"internal": True}}
    assert {tuple(each["networks"]) for each in compose["services"].values()} == {("mesh",)}
    assert seconds(one["stop_grace_period"]) > stopping_takes(settings.timing) + 1
    assert one["ulimits"]["nofile"] > settings.limits.connections


# -- Kubernetes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, Any]) -> Any:
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture
def pod_settings(manifests: dict[str, Any], tmp_path: Path) -> Settings:
    path = tmp_path / "broker.toml"
    path.write_text(manifests["ConfigMap"]["data"]["broker.toml"])
    return load_settings(path, {TOKEN_VARIABLE: "x" * 64})


def test_the_configuration_of_the_pod_is_fit_to_serve(
    manifests: dict[str, Any], pod_settings: Settings
) -> None:
    assert exposures(pod_settings, environment_token="x" * 64, made_up=False) == []
    # And what stands in the secret is not.
    placeholder = manifests["Secret"]["stringData"][TOKEN_VARIABLE]
    assert exposures(pod_settings, environment_token=placeholder, made_up=False)


def test_the_pod_runs_what_there_is(
    manifests: dict[str, Any], pod: Any, dockerfile: list[list[Instruction]]
) -> None:
    [container] = pod["containers"]
    command = parse(["switchboard", *container["args"]])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(command["config"]) == f"{mounts['config']}/broker.toml"
    [variable] = container["env"]
    assert variable["name"] == TOKEN_VARIABLE
    secret = variable["valueFrom"]["secretKeyRef"]
    assert secret["name"] == manifests["Secret"]["metadata"]["name"]
    assert secret["key"] in manifests["Secret"]["stringData"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes.keys() == mounts.keys()
    assert volumes["config"]["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]
    user, _, group = values(dockerfile[1], "USER")[0].partition(":")
    confined = pod["securityContext"]
    assert (confined["runAsUser"], confined["runAsGroup"]) == (int(user), int(group))


def test_the_pod_reads_its_certificate_where_it_is(pod: Any, pod_settings: Settings) -> None:
    [listener] = pod_settings.listeners
    [container] = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert listener.certificate == f"{mounts['tls']}/tls.crt"
    assert listener.key == f"{mounts['tls']}/tls.key"


def test_the_probes_and_ports_are_those_of_the_broker(
    manifests: dict[str, Any], pod: Any, pod_settings: Settings
) -> None:
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    [listener] = pod_settings.listeners
    assert listener.tcp_address == ("0.0.0.0", ports["mesh"])
    assert pod_settings.ops.host_and_port == ("0.0.0.0", ports["ops"])
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "ops"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
    for port in manifests["Service"]["spec"]["ports"]:
        assert port["port"] == ports[port["targetPort"]]
    notes = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(ports["ops"])


def test_the_pod_has_time_to_be_noticed_and_to_stop(pod: Any, pod_settings: Settings) -> None:
    [container] = pod["containers"]
    probe = container["readinessProbe"]
    noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert pod_settings.timing.grace_ms / 1000 > noticed
    assert pod["terminationGracePeriodSeconds"] > stopping_takes(pod_settings.timing) + 1


def test_selectors_find_the_pod(manifests: dict[str, Any]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    # Two brokers would be two meshes.
    assert manifests["Deployment"]["spec"]["replicas"] == 1
    assert manifests["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}


# -- Prometheus ------------------------------------------------------------------------------------


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def test_prometheus_scrapes_the_ops_port() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{DEFAULT_OPS_PORT}"]}]
    assert job["metrics_path"] == "/metrics"
    for name in config["rule_files"]:
        assert (DEPLOY / name).is_file()
    for rule in rules():
        for wanted in re.findall(r'job="(\w+)"', rule["expr"]):
            assert wanted == job["job_name"]


def test_every_file_is_looked_at_here() -> None:
    told = Path(__file__).read_text() + (ROOT / "docs" / "operations.md").read_text()
    for file in DEPLOY.iterdir():
        if not file.name.startswith("__"):
            assert file.name in told, file.name
