"""`python -m services.chat`."""

from __future__ import annotations

from services.chat.main import main

if __name__ == "__main__":
    main(prog_name="python -m services.chat")
