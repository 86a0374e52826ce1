"""`python -m services.gateways.mirage`."""

from __future__ import annotations

from services.gateways.mirage.main import main

if __name__ == "__main__":
    main(prog_name="python -m services.gateways.mirage")
