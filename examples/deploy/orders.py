"""A service that asks another one: `python -m examples.deploy.orders`, for compose.yaml."""

from examples.service import TOKEN, URL, Invoice, Order
from services.sdk import Mesh, Service

orders = Service("orders")


@orders.on("ORDER_PLACE")
async def place_order(order: Order, mesh: Mesh) -> Invoice:
    return await mesh.request("INVOICE_CREATE", order, group="billing", returns=Invoice, timeout=2)


if __name__ == "__main__":
    orders.run(URL, token=TOKEN)
