"""The examples, as a person starts them, with a broker that is running."""

from __future__ import annotations

import re
import signal

import pytest

from tests.sdk.programs import ROOT, start


def test_the_examples(broker: str) -> None:
    with start("-m", "examples.service", SWITCHBOARD_URL=broker) as service:
        output = ""
        # It says nothing when it is ready; the client says what is the matter until then.
        while not output.startswith("3 x tea"):
            with start("-m", "examples.client", SWITCHBOARD_URL=broker) as client:
                output, errors = client.communicate()
            assert (client.returncode, errors) == (0, "")
            assert output.startswith(("no invoice: INVOICE_CREATE to group billing", "3 x tea"))
        assert output == "3 x tea: 28.50\n"
        service.terminate()
        assert (service.wait(), *service.communicate()) == (0, "", "")


def test_a_request(broker: str) -> None:
    with start("-m", "examples.request", SWITCHBOARD_URL=broker) as program:
        output, errors = program.communicate()
    assert (program.returncode, errors) == (0, "")
    assert output.splitlines() == [
        "tea: reserved, 3 left",
        "coffee: OUT_OF_STOCK, none left; again tomorrow",
        "cake: no answer in time",
        "there is no member of group 'warehouse'",
    ]


def test_a_gather(broker: str) -> None:
    with start("-m", "examples.gather", SWITCHBOARD_URL=broker) as program:
        output, errors = program.communicate()
    assert (program.returncode, errors) == (0, "")
    first, *answers, last = output.splitlines()
    assert (first, last) == ("asked: 3", "west: EXPIRED")
    assert sorted(answers) == ["east: 15042 users", "north: 12007 users"]


def test_watching(broker: str) -> None:
    with start("-m", "examples.watch", SWITCHBOARD_URL=broker) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("= watchers ")
        with start("-m", "examples.gather", SWITCHBOARD_URL=broker) as program:
            program.communicate()
        seen = [watch.stdout.readline().split() for _ in range(8)]
        assert [line[:3] for line in seen[:3]] == [
            ["+", "shards", name] for name in ("north", "east", "west")
        ]
        assert seen[3][:2] == ["+", "web"]
        assert sorted(line[1] for line in seen[4:]) == ["shards", "shards", "shards", "web"]
        assert {(line[0], line[-1]) for line in seen[4:]} == {("-", "NO_REASON")}
        watch.send_signal(signal.SIGINT)
        assert (watch.wait(), *watch.communicate()) == (0, "", "")


@pytest.mark.parametrize("name", ["request", "gather", "watch"])
def test_the_examples_say_when_there_is_no_broker(name: str) -> None:
    with start("-m", f"examples.{name}", SWITCHBOARD_URL="tcp://127.0.0.1:1") as program:
        _, errors = program.communicate()
    assert program.returncode == 1
    assert "cannot connect to tcp://127.0.0.1:1" in errors.splitlines()[-1]


def test_the_list_of_the_examples_is_whole() -> None:
    directory = ROOT / "examples"
    listed = re.findall(r"^\| \[(.+)\]\((.+)\) \|", (directory / "README.md").read_text(), re.M)
    there = {
        path.name + "/" * path.is_dir()
        for path in directory.iterdir()
        if not path.name.startswith(("__", ".", "README"))
    }
    assert {name for name, _ in listed} == {link for _, link in listed} == there


def test_the_examples_without_settings_of_their_own() -> None:
    """What the list says to type fits together, but for the port, which may be in use."""
    environment = {"SWITCHBOARD_TOKEN": "a-long-random-secret"}
    listen = ("--listen", "tcp://127.0.0.1:0")
    with start("-m", "broker", "serve", *listen, **environment) as broker:
        assert broker.stdout is not None
        url = broker.stdout.readline().removeprefix("listening on ").strip()
        program = (
            "import os, runpy; del os.environ['SWITCHBOARD_TOKEN'];"
            "runpy.run_module('examples.request', run_name='__main__')"
        )
        with start("-c", program, SWITCHBOARD_URL=url) as request:
            output, errors = request.communicate()
        assert (request.returncode, errors) == (0, "")
        assert output.startswith("tea: reserved")
        broker.terminate()
