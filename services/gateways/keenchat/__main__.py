"""`python -m services.gateways.keenchat`."""

from __future__ import annotations

from services.gateways.keenchat.main import main

if __name__ == "__main__":
    main(prog_name="python -m services.gateways.keenchat")
