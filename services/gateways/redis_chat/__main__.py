"""`python -m services.gateways.redis_chat`."""

from __future__ import annotations

from services.gateways.redis_chat.main import main

if __name__ == "__main__":
    main(prog_name="python -m services.gateways.redis_chat")
