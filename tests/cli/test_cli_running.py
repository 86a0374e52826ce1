"""The end of a command: one exit code for each way, and nothing that looks like a crash."""

from __future__ import annotations

import pytest
import trio

from services.cli.exits import CommandError, Exit
from services.cli.running import run_client
from services.sdk import Expired, NoRoute


def code_of(error: BaseException | None, code: int = 0) -> int:
    async def main() -> int:
        await trio.lowlevel.checkpoint()
        if error is not None:
            raise error
        return code

    with pytest.raises(SystemExit) as caught:
        run_client(main)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize("code", [Exit.DONE, Exit.FAILED, 130])
def test_what_a_command_returns(capsys: pytest.CaptureFixture[str], code: int) -> None:
    assert code_of(None, code) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("no\x1b[31m", Exit.USAGE), 2, "Error: no\\u001b[31m\n"),
        (Expired("late"), 4, "Error: EXPIRED: late; --timeout gives it more time\n"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt(), NoRoute("x")]), 130, ""),
        (BrokenPipeError(), 141, ""),
        (ExceptionGroup("", [ExceptionGroup("", [BrokenPipeError()])]), 141, ""),
        (
            ExceptionGroup("", [CommandError("a"), CommandError("a"), CommandError("b")]),
            1,
            "Error: a\nError: b\n",
        ),
    ],
)
def test_errors_become_a_line_and_a_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    assert code_of(error) == code
    assert capsys.readouterr() == ("", said)


def test_a_fault_of_the_program_is_not_hidden() -> None:
    async def main() -> int:
        raise RuntimeError("a bug")

    with pytest.raises(BaseExceptionGroup) as caught:
        run_client(main)
    assert caught.group_contains(RuntimeError, match="a bug")
