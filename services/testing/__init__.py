"""The real broker in memory, for tests of services.

Example:
    >>> async with TestMesh() as mesh:
    ...     await mesh.run(billing)
    ...     client = await mesh.client(group="web")
    ...     await client.request("INVOICE_CREATE", order, group="billing")
"""

from services.testing.endpoints import Direction
from services.testing.mesh import TOKEN, Framing, TestMesh
from services.testing.registry import ConnectedService
from services.testing.virtual_time import virtual_time

__all__ = ["TOKEN", "ConnectedService", "Direction", "Framing", "TestMesh", "virtual_time"]
