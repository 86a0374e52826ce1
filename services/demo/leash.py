"""`python -m services.demo.leash MODULE …`: run a module, and end it when stdin does.

The demo holds the other end of that pipe. So nothing that it has started outlives it, in whatever
way it ends, be it by `kill -9`.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

__all__ = ["main"]

# As the demo itself would give; then the program is made to end.
_GRACE_SECONDS: Final = 5.0

_STDIN: Final = 0
_READ_BYTES: Final = 1024


def main() -> None:
    """Run the module that the arguments name, with the other arguments."""
    module, *arguments = sys.argv[1:]
    sys.argv[1:] = arguments
    threading.Thread(target=_end_with_stdin, name="leash", daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_stdin() -> None:
    while os.read(_STDIN, _READ_BYTES):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
