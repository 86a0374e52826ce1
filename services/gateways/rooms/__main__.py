"""`python -m services.gateways.rooms`."""

from __future__ import annotations

from services.gateways.rooms.main import main

if __name__ == "__main__":
    main(prog_name="python -m services.gateways.rooms")
