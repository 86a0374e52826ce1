"""Handlers: from a function's signature to what it is called with."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, get_type_hints

import attrs

from services.sdk.events import Event
from services.sdk.mesh import Mesh
from services.sdk.payloads import PayloadError, load
from services.sdk.request_errors import BadRequest

__all__ = ["Handler", "HandlerFunction", "check_async"]

HandlerFunction: TypeAlias = Callable[..., Awaitable[Any]]
"""Takes the event's data, and what else its annotations ask for; returns the reply's data."""

_FORM: Final = (
    "a handler takes the event's data and, by annotation, the Event and the Mesh: "
    "async def handler(data: Order, event: Event, mesh: Mesh) -> Invoice"
)


def check_async(function: object) -> None:
    """Refuse what cannot be a handler.

    Raises:
        TypeError: it is not an async function.
    """
    if not inspect.iscoroutinefunction(function):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"{name} is not an async function; {_FORM}")


@attrs.frozen
class Handler:
    """A function, and how to call it.

    Attributes:
        event: the name of the event that it handles.
        function: an async function.
        data: the parameter for the data; None where it wants none.
        kind: the type to read the data into; None for plain Python values.
        extras: the other parameters, and the classes that they ask for.
    """

    event: str
    function: HandlerFunction
    data: str | None
    kind: Any
    extras: dict[str, type]

    @classmethod
    def from_function(cls, event: str, function: HandlerFunction) -> Handler:
        """Read a function's signature.

        Raises:
            TypeError: it is no handler, or an annotation of it names what cannot be found.
        """
        name = getattr(function, "__qualname__", repr(function))
        try:
            hints = get_type_hints(function)
        except NameError as error:
            raise TypeError(
                f"{name}: {error}; the types of a handler stand at the top level of its module"
            ) from error
        data: list[str] = []
        extras: dict[str, type] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{name}: *{parameter.name} has no meaning here; {_FORM}")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise TypeError(f"{name}: {parameter.name} is positional only; {_FORM}")
            asked = hints.get(parameter.name, Any)
            if asked is Event or asked is Mesh:
                extras[parameter.name] = asked
            else:
                data.append(parameter.name)
        if len(data) > 1:
            raise TypeError(f"{name}: {' and '.join(data)} cannot both be the data; {_FORM}")
        parameter_name = data[0] if data else None
        kind = hints.get(parameter_name, Any) if parameter_name is not None else Any
        return cls(event, function, parameter_name, None if kind is Any else kind, extras)

    def bind(self, event: Event, mesh: Mesh) -> dict[str, Any]:
        """Return the arguments to call the function with.

        Raises:
            BadRequest: the data does not fit the annotation.
        """
        arguments: dict[str, Any] = {
            name: event if asked is Event else mesh for name, asked in self.extras.items()
        }
        if self.data is not None:
            try:
                arguments[self.data] = load(event.envelope.data, self.kind)
            except PayloadError as error:
                raise BadRequest(f"data: {error}") from error
        return arguments
