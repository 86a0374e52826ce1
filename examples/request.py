"""A request, and all that can come of it: `python -m examples.request`, with a broker running."""

import os

import anyio

from services.sdk import Expired, NoRoute, Service, ServiceError, connect

URL = os.environ.get("SWITCHBOARD_URL", "ws://127.0.0.1:8420")
TOKEN = os.environ.get("SWITCHBOARD_TOKEN", "a-long-random-secret")

stock = Service("stock")


@stock.on("RESERVE")
async def reserve(item: str) -> int:
    if item == "coffee":
        raise ServiceError("OUT_OF_STOCK", "none left", details={"again": "tomorrow"})
    if item == "cake":
        # Still in the oven. When the time of the request is over, this handler is cancelled.
        await anyio.sleep_forever()
    return 3


async def main() -> None:
    async with stock.serve(URL, token=TOKEN), connect(URL, group="web", token=TOKEN) as mesh:
        for item, patience in (("tea", 20), ("coffee", 20), ("cake", 0.1)):
            try:
                left = await mesh.request(
                    "RESERVE", item, group="stock", returns=int, timeout=patience
                )
                print(f"{item}: reserved, {left} left")
            except ServiceError as error:
                print(f"{item}: {error.code}, {error.message}; again {error.details['again']}")
            except Expired:
                print(f"{item}: no answer in time")
        try:
            await mesh.request("RESERVE", "tea", group="warehouse")
        except NoRoute as error:
            print(error.message)


if __name__ == "__main__":
    anyio.run(main, backend="trio")
