"""The report of the conversation: what it finds wrong, and how it shows what was seen."""

from __future__ import annotations

import pytest
from rich.console import Console

from services.demo.report import Report, Said, judge
from services.demo.talkers.systems import System
from services.demo.talkers.talker import Heard

MIA = Said(System.MIRAGE, "Mia", "hello", 1.0)
KEN = Said(System.KEENCHAT, "Ken", "hi", 2.0)
SAID = [MIA, KEN]


def heard(*texts: str, **authors: str) -> list[Heard]:
    names = {"hello": "Mia", "hi": "Ken"} | authors
    return [
        Heard(names.get(text, "Ada"), text, 2.0 + number / 100) for number, text in enumerate(texts)
    ]


def everywhere(*texts: str) -> dict[System, list[Heard]]:
    return {system: heard(*texts) for system in System}


def test_nothing_is_wrong_where_all_have_seen_all_in_one_order() -> None:
    assert judge(SAID, everywhere("hello", "hi")) == []
    assert judge(SAID, everywhere("hi", "hello")) == []


def test_what_others_say_does_not_matter() -> None:
    hearing = everywhere("hello", "hi")
    hearing[System.ROOMS] = heard("spring", "hello", "summer", "hi")
    assert judge(SAID, hearing) == []


@pytest.mark.parametrize("system", System)
def test_a_message_that_is_missing_is_told(system: System) -> None:
    hearing = everywhere("hello", "hi")
    hearing[system] = heard("hi")
    [problem] = judge(SAID, hearing)
    assert problem == f"'hello' of Mia, said on Mirage, has not been seen on {system.label}"


def test_a_message_that_comes_twice_is_told() -> None:
    hearing = everywhere("hello", "hi")
    hearing[System.ROOMS] = heard("hello", "hi", "hi")
    [problem] = judge(SAID, hearing)
    assert problem == "'hi' of Ken, said on Keenchat, has been seen 2 times on Rooms"


def test_a_wrong_author_is_told() -> None:
    hearing = everywhere("hello", "hi")
    hearing[System.REDIS_CHAT] = heard("hello", "hi", hi="Mia")
    [problem] = judge(SAID, hearing)
    assert problem == "'hi' of Ken, said on Keenchat, has been seen on Redis chat as said by Mia"


def test_another_order_is_told() -> None:
    hearing = everywhere("hello", "hi")
    hearing[System.KEENCHAT] = heard("hi", "hello")
    [problem] = judge(SAID, hearing)
    assert problem == "Keenchat has shown the messages in another order than Mirage"


def test_the_order_is_that_of_who_has_seen_them_not_of_the_acknowledgements() -> None:
    report = Report(SAID, everywhere("hi", "hello"), [])
    assert report.in_order() == [KEN, MIA]


def shown(report: Report) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.table())
    return capture.get()


def test_the_table_has_the_milliseconds_of_each_and_what_is_missing() -> None:
    hearing = everywhere("hello", "hi")
    hearing[System.ROOMS] = heard("hello")
    table = shown(Report(SAID, hearing, judge(SAID, hearing)))
    [first] = [line.split() for line in table.splitlines() if "Mia" in line]
    assert first == ["Mirage", "Mia", "hello", "1000", "1000", "1000", "1000"]
    [second] = [line.split() for line in table.splitlines() if "Ken" in line]
    assert second == ["Keenchat", "Ken", "hi", "10", "10", "not", "seen", "10"]


def test_as_json_it_has_the_author_and_the_delay_of_each() -> None:
    hearing = everywhere("hello", "hi")
    hearing[System.ROOMS] = heard("hello", hello="Ken")
    made = Report(SAID, hearing, ["so"]).as_object()
    assert made["problems"] == ["so"]
    first, second = made["messages"]
    assert first["seen"]["rooms"] == {"author": "Ken", "ms": 1000.0}
    assert list(second["seen"]) == ["mirage", "keenchat", "redis_chat"]


def test_the_verdict_is_a_good_one_only_where_nothing_is_wrong() -> None:
    assert "in the same order" in Report(SAID, everywhere("hello", "hi"), []).verdict()
    assert Report(SAID, everywhere("hello", "hi"), ["x"]).verdict().startswith("Not all")
