"""A broker as a process: what signals make of it.

SIGTERM and SIGINT take leave of the connections; a second one ends it at once. SIGHUP reads the
settings again.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
import trio

from broker import __version__
from broker.core.settings import Settings
from broker.server import ActivationError, ListenError, OpsPortError, Server
from broker.service_manager import ServiceManager
from broker.settings_loader import SettingsError
from broker.transport.activation import InheritedSockets
from broker.transport.request_log import RequestLog
from broker.transport.tls_context import TlsSettingsError, certificate_warnings

__all__ = ["run_until_signal", "warn_of_certificates"]

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

# Windows has none.
_RELOAD_SIGNAL: Final[signal.Signals | None] = getattr(signal, "SIGHUP", None)

_log = structlog.get_logger()


async def run_until_signal(
    settings: Settings,
    announce: Callable[[list[str]], None],
    load: Callable[[], Settings] | None,
    inherited: InheritedSockets | None = None,
    manager: ServiceManager | None = None,
) -> int | None:
    """Run the server to its end.

    Args:
        settings: to begin with.
        announce: is told the addresses, once it listens.
        load: reads the settings again, in a thread of its own; raises `SettingsError`. Without it
            there is nothing to read, and SIGHUP stands for the end of the terminal.
        inherited: sockets that listen already.
        manager: is told how it goes.

    Returns:
        The signal that ended it at once; None when it ended in good order.

    Raises:
        ListenError: an address can't be listened on.
        OpsPortError: nor can that of the ops port.
        TlsSettingsError: a certificate or a key can't be used.
        ActivationError: a socket was handed over that no listener has the address of.
    """
    manager = manager or ServiceManager({}, 0)
    tracing = structlog.get_logger().is_enabled_for(logging.DEBUG)
    server = Server(settings, RequestLog() if tracing else None, inherited, ops_by_default=True)
    ready = trio.Event()
    ended_by: int | None = None
    failure: ActivationError | ListenError | OpsPortError | TlsSettingsError | None = None
    hang_up = [] if _RELOAD_SIGNAL is None else [_RELOAD_SIGNAL]
    stop_signals = _STOP_SIGNALS if load is not None else (*_STOP_SIGNALS, *hang_up)

    async def watch_signals() -> None:
        nonlocal ended_by
        with trio.open_signal_receiver(*stop_signals) as signals:
            async for _first in signals:
                if not ready.is_set():
                    nursery.cancel_scope.cancel()
                server.drain()
                break
            async for second in signals:
                ended_by = second
                break
        # With the receiver closed, a third signal meets the system's own handler.
        server.stop()
        nursery.cancel_scope.cancel()

    async def tell_of_drain() -> None:
        await server.wait_draining()
        manager.stopping()
        _log.info("draining", connections=server.dispatcher.statistics().connections)

    async def reload_at(number: signal.Signals, load: Callable[[], Settings]) -> None:
        with trio.open_signal_receiver(number) as signals:
            await ready.wait()
            async for _number in signals:
                manager.reloading()
                await _reload(server, load)
                manager.ready(_status(server))

    async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await server.run(task_status=task_status)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_signals)
        nursery.start_soon(tell_of_drain)
        if load is not None:
            for number in hang_up:
                nursery.start_soon(reload_at, number, load)
        try:
            await nursery.start(run)
        except (ActivationError, ListenError, OpsPortError, TlsSettingsError) as error:
            # Raised below, outside the nursery, which would wrap it in a group.
            failure = error
            nursery.cancel_scope.cancel()
        else:
            ready.set()
            announce(server.addresses)
            for address in server.ops_addresses:
                _log.info("probes, metrics and a live page are at hand", address=address)
            if server.ops_failure is not None:
                _log.warning(
                    "no probes and no metrics: the ops port can't be listened on",
                    address=server.ops_failure.address,
                    hint='set ops.address to another one, or to "" for none',
                )
            manager.ready(_status(server))
            nursery.start_soon(manager.run)
            _log.info("ready", addresses=server.addresses, version=__version__)
    if failure is not None:
        raise failure
    return ended_by


def _status(server: Server) -> str:
    return f"listening on {', '.join(server.addresses)}"


async def _reload(server: Server, load: Callable[[], Settings]) -> None:
    """Read the settings and go by them, or say everything that is wrong and change nothing."""
    try:
        # Files and name servers can be slow, and the connections must not wait for them.
        settings = await trio.to_thread.run_sync(load)
        fixed = server.reload(settings)
    except (SettingsError, TlsSettingsError) as error:
        for problem in error.problems:
            _log.error("settings not reloaded, the old ones stay", problem=problem)
        return
    _log.info("settings reloaded")
    for setting in fixed:
        _log.warning("this setting is different, and takes a restart", setting=setting)
    await trio.to_thread.run_sync(warn_of_certificates, settings)


def warn_of_certificates(settings: Settings) -> None:
    """Log what will soon be wrong with the certificates."""
    for warning in certificate_warnings(settings.listeners, datetime.now(UTC)):
        _log.warning("certificate", problem=warning)
