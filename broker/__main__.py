"""`python -m broker`: the server's own commands, where the `switchboard` command is not wanted."""

from __future__ import annotations

from broker.commands import main

if __name__ == "__main__":
    main(prog_name="python -m broker")
