"""DATA: from an argument, a file, stdin; and what is said where it is no JSON."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest

from services.cli.data import read_data


def refusal(argument: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        read_data(argument)
    return caught.value.message


def test_no_data_is_null() -> None:
    assert read_data(None) is None


@pytest.mark.parametrize("text", ['{"id": 7}', "7", "null", '"Grüße"', " [1,\n 2] ", "1.000"])
def test_json_goes_on_as_it_was_written(text: str) -> None:
    data = read_data(text)
    assert data is not None
    assert bytes(data) == text.encode()


def test_data_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"id":7}')
    data = read_data(f"@{path}")
    assert data is not None
    assert bytes(data) == b'{"id":7}'


def test_data_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"id":7}')))
    data = read_data("-")
    assert data is not None
    assert bytes(data) == b'{"id":7}'


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    said = refusal(f"@{tmp_path}/none")
    assert said == f"DATA: can't read {tmp_path}/none: No such file or directory"


def test_the_place_is_shown() -> None:
    assert refusal('{"id": 7,\n "x": oops}').splitlines()[:3] == [
        "DATA is no JSON: line 2, column 7: Expecting value",
        '   "x": oops}',
        "        ^",
    ]


def test_quotes_that_the_shell_has_taken() -> None:
    assert """single quotes around all of it, as in '{"id": 7}'""" in refusal("{id: 7}")


def test_a_bare_word() -> None:
    assert refusal("hello").endswith("""as in '"hello"'.""")


def test_a_file_gets_no_advice_about_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text("{")
    assert refusal(f"@{path}").splitlines() == [
        f"{path} is no JSON: line 1, column 2: Expecting property name enclosed in double quotes",
        "  {",
        "   ^",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'"\xff"', "byte 2 is not UTF-8"),
        (b"NaN", "JSON is malformed"),
        (b'"\\ud800"', "half a surrogate pair"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_what_the_broker_would_not_take(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    assert said in refusal(f"@{path}")


def test_a_long_line_is_cut_around_the_place() -> None:
    said = refusal('["' + "a" * 500 + '", oops, "' + "b" * 500 + '"]').splitlines()
    assert len(said[1]) <= 70
    assert said[1][said[2].index("^") :].startswith("oops")


def test_control_characters_are_not_echoed() -> None:
    said = refusal("\x1b[31m{")
    assert "\x1b" not in said
