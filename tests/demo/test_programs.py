"""The ports of the demo's programs, the packages that they need, and their commands."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import socket
from contextlib import ExitStack

import pytest

from services.demo import requirements
from services.demo.errors import DemoError
from services.demo.ports import check_ports
from services.demo.programs import BROKER, GATEWAYS, PROGRAMS, port_names, wanted_ports
from tests.cli.commands import invoke
from tests.integration.broker_process import ROOT

PAGE = (ROOT / "docs" / "chat.md").read_text()


def test_the_usual_ports_are_those_of_the_documents() -> None:
    assert wanted_ports([], any_port=False) == {
        "broker": 0,
        "mirage": 5000,
        "keenchat": 5002,
        "keenchat-events": 5001,
        "rooms": 8888,
        "redis-chat": 8080,
    }


def test_the_ports_are_those_of_the_page() -> None:
    section = PAGE.partition("## The demo\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", section, re.MULTILINE)
    told = {name: int(number) if number.isdecimal() else 0 for name, number in rows}
    assert told == wanted_ports([], any_port=False)


def test_the_system_chooses_all_but_those_that_are_named() -> None:
    wanted = wanted_ports(["rooms=7", "mirage=0"], any_port=True)
    assert wanted.pop("rooms") == 7
    assert set(wanted.values()) == {0}


@pytest.mark.parametrize(
    "choice", ["", "rooms", "rooms=", "rooms=x", "chat=1", "rooms=65536", "=1"]
)
def test_what_is_no_port_is_refused_with_the_names(choice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(", ".join(port_names()))):
        wanted_ports([choice], any_port=False)


def test_two_cannot_have_the_same_port() -> None:
    with pytest.raises(ValueError, match="mirage and rooms cannot both have port 5000"):
        wanted_ports(["rooms=5000"], any_port=False)
    assert wanted_ports(["rooms=5000", "mirage=5003"], any_port=False)["rooms"] == 5000


def test_all_ports_in_use_are_told_at_once() -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        first, second = (one.getsockname()[1] for one in sockets)
        with pytest.raises(DemoError) as caught:
            check_ports({"rooms": first, "broker": 0, "mirage": second})
    assert f"port {first}, for rooms, is in use; port {second}, for mirage, is in use" in str(
        caught.value
    )
    check_ports({"rooms": first, "mirage": second})


def test_each_program_is_told_of_its_ports_and_where_the_broker_is() -> None:
    for program in PROGRAMS:
        numbers = range(7001, 7001 + len(program.ports))
        url = "" if program is BROKER else "tcp://somewhere"
        module, *arguments = program.command(numbers, url)
        assert importlib.util.find_spec(module) is not None
        assert ("tcp://somewhere" in arguments) == bool(url)
        assert [
            int(one.rpartition("=")[2].rpartition(":")[2]) for one in arguments if "=" in one
        ] == [*numbers]


def test_there_is_a_program_for_each_gateway() -> None:
    assert [program.name for program in GATEWAYS] == ["mirage", "keenchat", "rooms", "redis_chat"]


def test_missing_packages_are_told_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert requirements.missing_packages() == []
    find = importlib.util.find_spec

    def find_some(name: str) -> importlib.machinery.ModuleSpec | None:
        return None if name in {"uvicorn", "socketio"} else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_some)
    outcome = invoke("demo")
    assert outcome.code == 1
    assert outcome.stderr == (
        "Error: the demo needs python-socketio, uvicorn: install them with pip install "
        "'switchboard[chat]'\n"
    )
