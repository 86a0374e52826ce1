"""A service: `python -m examples.service`, with a broker running."""

import os

import attrs

from services.sdk import Service

URL = os.environ.get("SWITCHBOARD_URL", "ws://127.0.0.1:8420")
TOKEN = os.environ.get("SWITCHBOARD_TOKEN", "a-long-random-secret")


@attrs.frozen
class Order:
    """What somebody wants."""

    item: str
    count: int = attrs.field(validator=attrs.validators.ge(1))


@attrs.frozen
class Invoice:
    """What it costs."""

    text: str
    total: float


billing = Service("billing")


@billing.on("INVOICE_CREATE")
async def create_invoice(order: Order) -> Invoice:
    return Invoice(text=f"{order.count} x {order.item}", total=order.count * 9.5)


if __name__ == "__main__":
    billing.run(URL, token=TOKEN)
