"""Who is there, who comes and who goes: `python -m examples.watch`, with a broker running.

It goes on until Ctrl-C.
"""

import os

from services.sdk import Down, ServiceInfo, Snapshot, Up, connect, run_until_signal

URL = os.environ.get("SWITCHBOARD_URL", "ws://127.0.0.1:8420")
TOKEN = os.environ.get("SWITCHBOARD_TOKEN", "a-long-random-secret")


def show(mark: str, service: ServiceInfo, more: str = "") -> None:
    print(mark, service.group, service.name or service.id, more, flush=True)


async def main() -> None:
    async with connect(URL, group="watchers", token=TOKEN) as mesh, mesh.watch() as changes:
        async for change in changes:
            match change:
                case Snapshot(services):
                    for service in services:
                        show("=", service)
                case Up(service):
                    show("+", service)
                case Down(service, reason):
                    show("-", service, reason)


if __name__ == "__main__":
    run_until_signal(main)
