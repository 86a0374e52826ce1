"""A client: `python -m examples.client`, with `examples.service` running."""

import anyio

from examples.service import TOKEN, URL, Invoice, Order
from services.sdk import MeshError, connect


async def main() -> None:
    async with connect(URL, group="web", token=TOKEN) as mesh:
        order = Order(item="tea", count=3)
        try:
            invoice = await mesh.request(
                "INVOICE_CREATE", order, group="billing", returns=Invoice, timeout=2
            )
        except MeshError as error:
            print(f"no invoice: {error}")
        else:
            print(f"{invoice.text}: {invoice.total:.2f}")


if __name__ == "__main__":
    anyio.run(main, backend="trio")
