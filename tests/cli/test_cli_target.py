"""Which broker, and with which token: options, environment, contexts."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from services.cli.context_file import Context, ContextFile, config_path
from services.cli.exits import CommandError, Exit
from services.cli.target import Choice, Target, choose
from services.sdk import Tls
from tests.cli.commands import invoke

ENV: Mapping[str, str] = {
    "SWITCHBOARD_URL": "ws://from-env",
    "SWITCHBOARD_TOKEN": "env-token",
    "SWITCHBOARD_GROUP": "env-group",
}


@pytest.fixture
def contexts() -> ContextFile:
    file = ContextFile(config_path(os.environ))
    file.put("local", Context("ws://local", "local-token", "local-group"))
    file.put("live", Context("wss://live", "live-token", ca="/live.pem"))
    return file


def chosen(environ: Mapping[str, str] | None = None, **options: str) -> Target:
    here = {"XDG_CONFIG_HOME": os.environ["XDG_CONFIG_HOME"]}
    return choose(Choice(**options), {**here, **(environ or {})})


def test_the_current_context(contexts: ContextFile) -> None:
    assert chosen() == Target("ws://local", "local-token", "local-group")


def test_the_environment_comes_before_the_current_context(contexts: ContextFile) -> None:
    assert chosen(ENV) == Target("ws://from-env", "env-token", "env-group")


def test_options_come_before_the_environment(contexts: ContextFile) -> None:
    target = chosen(ENV, url="ws://option", token="option-token", group="option-group")
    assert target == Target("ws://option", "option-token", "option-group")


def test_a_named_context_comes_before_the_environment(contexts: ContextFile) -> None:
    target = chosen(ENV, context="live")
    assert (target.url, target.token) == ("wss://live", "live-token")
    assert target.tls == Tls(ca="/live.pem")


def test_a_context_named_by_the_environment_comes_after_its_other_variables(
    contexts: ContextFile,
) -> None:
    assert chosen({"SWITCHBOARD_CONTEXT": "live"}).url == "wss://live"
    assert chosen({**ENV, "SWITCHBOARD_CONTEXT": "live"}).url == "ws://from-env"


def test_a_token_does_not_go_to_another_broker_than_its_own(contexts: ContextFile) -> None:
    with pytest.raises(CommandError, match="there is no token"):
        chosen(url="ws://elsewhere")
    with pytest.raises(CommandError, match="there is no token"):
        chosen({"SWITCHBOARD_URL": "ws://elsewhere"})
    assert chosen(url="ws://local").token == "local-token"
    assert chosen(url="ws://elsewhere", context="local").token == "local-token"


def test_no_token_at_all() -> None:
    with pytest.raises(CommandError, match="set SWITCHBOARD_TOKEN") as caught:
        chosen()
    assert caught.value.exit == Exit.USAGE


def test_a_certificate_in_the_place_of_a_token() -> None:
    target = chosen(cert="/cert")
    assert (target.token, target.tls) == (None, Tls(certificate="/cert"))


def test_the_defaults() -> None:
    assert chosen(token="t") == Target("ws://127.0.0.1:8420", "t", "cli")


def test_a_context_that_is_not_there() -> None:
    with pytest.raises(CommandError, match="there is no context 'nope'"):
        chosen(ENV, context="nope")


def test_certificates_of_the_options() -> None:
    target = chosen(ENV, ca="/ca", cert="/cert", key="/key", server_name="b")
    assert target.tls == Tls(ca="/ca", certificate="/cert", key="/key", server_name="b")


def test_a_key_without_a_certificate() -> None:
    outcome = invoke("emit", "X", "--token", "t", "--url", "wss://x", "--key", "/key")
    assert (outcome.code, outcome.stderr) == (2, "Error: --key belongs to --cert\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--url", "http://x"), "is no address of a broker"),
        (("--url", "ws://x", "--ca", "/nowhere"), "are for wss:// and tls:// URLs"),
        (("--url", "wss://x", "--ca", "/nowhere"), "ca /nowhere: No such file"),
    ],
)
def test_what_can_not_be_used_is_said_before_connecting(
    arguments: tuple[str, ...], said: str
) -> None:
    outcome = invoke("emit", "X", "--token", "t", *arguments)
    assert outcome.code == 2
    assert said in outcome.stderr


def test_no_token_is_shown_in_a_repr(contexts: ContextFile) -> None:
    assert "local-token" not in repr(chosen()) + repr(contexts.contexts)
