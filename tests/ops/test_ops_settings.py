"""The settings of the ops port: what is taken, and what would let strangers look on."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.commands import main
from broker.core.authentication import hash_token
from broker.core.settings import OpsSettings, Settings
from broker.exposure import exposures
from broker.settings_loader import SettingsError, load_settings

SHA256 = hash_token("a token of the operator's")


def load(path: Path, content: str) -> OpsSettings:
    file = path / "broker.toml"
    file.write_text(content)
    return load_settings(file, {}).ops


def test_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == OpsSettings(address=None, token_sha256=None, metrics=True)


def test_everything(tmp_path: Path) -> None:
    content = (
        f'[ops]\naddress = "[::1]:9000"\ntoken_sha256 = "{SHA256}"\n'
        'host_names = ["ops.example.org"]\nmetrics = false\n'
    )
    ops = load(tmp_path, content)
    assert ops == OpsSettings("[::1]:9000", SHA256, ("ops.example.org",), metrics=False)
    assert ops.host_and_port == ("::1", 9000)
    assert SHA256 not in repr(ops)
    assert load(tmp_path, '[ops]\naddress = ""').host_and_port is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("address = '8421'", "ops.address: '8421' is no address: write HOST:PORT"),
        ("address = 'tcp://127.0.0.1:1'", "ops.address: 'tcp://127.0.0.1:1' is no address"),
        ("address = '127.0.0.1:65536'", "ops.address: '127.0.0.1:65536' is no address"),
        ("address = '::1:8421'", "ops.address: '::1:8421' is no address"),
        ("address = 8421", "ops.address: must be a string, not an integer"),
        ("token_sha256 = 'secret'", "ops.token_sha256: must be the SHA-256 of a token"),
        ("host_names = ['http://x']", "ops.host_names: 'http://x' is no host name"),
        ("metrics = 'no'", "ops.metrics: must be a boolean"),
        ("adress = ''", "ops.adress: unknown key; did you mean address?"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"[ops]\n{line}\n")
    (found,) = caught.value.problems
    assert found.startswith(problem)


def found_in(ops: OpsSettings) -> list[str]:
    return exposures(Settings(ops=ops), environment_token=None, made_up=False)


@pytest.mark.parametrize("address", [None, "", "127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_what_only_this_machine_reaches_needs_no_token(address: str | None) -> None:
    assert found_in(OpsSettings(address)) == []


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1"])
def test_what_others_reach_needs_a_token_that_is_not_well_known(address: str) -> None:
    (problem,) = found_in(OpsSettings(address))
    assert problem.startswith(f"{address}, the ops port, can be reached from other machines")
    assert "ops.token_sha256" in problem
    assert "--insecure" in problem
    (problem,) = found_in(OpsSettings(address, hash_token("secret")))
    assert "everybody knows" in problem
    assert found_in(OpsSettings(address, SHA256)) == []


def test_serve_refuses_it(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('[ops]\naddress = "0.0.0.0:0"\n')
    outcome = CliRunner().invoke(main, ["serve", "--config", str(file)])
    assert outcome.exit_code == 1
    assert "the ops port, can be reached from other machines" in outcome.stderr


def test_a_token_that_may_drain() -> None:
    outcome = CliRunner().invoke(main, ["token", "new", "--drain"])
    table = outcome.stderr.partition("# For the configuration:")[2]
    assert tomllib.loads(table)["tokens"][0]["permissions"] == {"drain": True}
