"""Secrets go in and never come out: not in a log, an error, a count, a list, nor in what is shown.

A broker is run through all that it says to anybody, with secrets that are known here, and then all
of that is searched for them.
"""

from __future__ import annotations

import hashlib
import signal
import time
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from broker.commands import main
from broker.core.access_settings import JwtSettings, TokenSettings
from broker.core.authentication import Authenticator, hash_token
from broker.core.principal import Credentials
from broker.core.settings import Settings
from broker.settings_loader import load_settings
from tests.core.jwt_maker import SECRET, claims, sign
from tests.core.memory_mesh import MemoryMesh
from tests.integration.operators import Client, Operator, operator

TOKEN: Final = "swb_the-token-that-opens-the-door"
MISTYPED: Final = "swb_the-token-of-another-broker"
FORGED: Final = b"a secret of somebody else's, with more than 32 bytes"

CONFIG: Final = f"""
[[listeners]]
address = "tcp://127.0.0.1:0"
[[tokens]]
name = "web"
sha256 = "{hash_token(TOKEN)}"
permissions = {{ stats = true }}
[jwt]
algorithms = ["HS256"]
audience = "mesh"
key_file = "jwt.secret"
"""

TO_BROKER: Final = {"target": "DIRECT", "identifier": "$broker"}


def jwt(**said: Any) -> str:
    return sign(SECRET, claims(**{"exp": time.time() + 3600, "group": "web", **said}))


JWTS: Final = [
    jwt(),
    jwt(exp=5),
    jwt(aud="other"),
    jwt(group=None),
    jwt(permissions={"zork": 1}),
    sign(FORGED, claims()),
    sign(None, claims()),
    sign(SECRET, b"no claims"),
    sign(SECRET, claims(), crit=["exp"]),
]


def secrets_to_search_for() -> list[str]:
    found = [
        TOKEN,
        MISTYPED,
        SECRET.decode(),
        FORGED.decode(),
        *(hash_token(token) for token in (TOKEN, MISTYPED)),
        repr(hashlib.sha256(TOKEN.encode()).digest())[2:-1],
    ]
    for token in JWTS:
        _header, payload, signature = token.split(".")
        found += [part for part in (payload, signature) if part]
    return found


def check(said: str) -> None:
    assert said
    for secret in secrets_to_search_for():
        assert secret not in said
        # Nor a good part of it.
        assert secret[: len(secret) // 2] not in said


async def hear_all(client: Client) -> str:
    """All that the broker says to a client until it hangs up."""
    said = ""
    while line := await client.lines.next():
        said += line
    return said


async def say(broker: Operator, *frames: bytes) -> str:
    client = await broker.connect_silently()
    await client.stream.send_all(b"\n".join(frames) + b"\n" + b'{"op":2}\n')
    return await hear_all(client)


def identify(token: str, more: str = "") -> bytes:
    return f'{{"op":1,"data":{{"token":"{token}","group":"web"{more}}}}}'.encode()


async def test_a_running_broker_says_no_secret_to_anybody(tmp_path: Path) -> None:
    (tmp_path / "jwt.secret").write_bytes(SECRET)
    heard = []
    async with operator(tmp_path, CONFIG, "--log-level", "debug") as broker:
        watcher = await broker.join(TOKEN, "web")
        await watcher.send(op=0, id="w", event="WATCH", intent=TO_BROKER)
        questions = b"\n".join(
            b'{"op":0,"id":"%d","event":"%s","intent":{"target":"DIRECT","identifier":"$broker"}}'
            % (number, event)
            for number, event in enumerate((b"SERVICES", b"STATS", b"WHOAMI"))
        )
        for token in (TOKEN, JWTS[0]):
            heard.append(await say(broker, identify(token), questions))
            # Twice; in the wrong place; with a property too many, or of the wrong type.
            heard.append(await say(broker, identify(token), identify(token)))
            heard.append(await say(broker, identify(token, ',"meta":5')))
            heard.append(await say(broker, identify(token, ',"concurrency":"x"')))
            heard.append(await say(broker, b'{"op":1,"data":"%s"}' % token.encode()))
            heard.append(await say(broker, b'{"op":1,"data":{"token":["%s"]}}' % token.encode()))
            heard.append(
                await say(broker, b'{"op":1,"data":{"token":"%s"}' % token.encode(), b"}}")
            )
            heard.append(await say(broker, token.encode()))
            heard.append(await say(broker, b'{"op":"%s"}' % token.encode()))
        for token in (MISTYPED, *JWTS[1:]):
            said = await say(broker, identify(token))
            assert "IDENTIFY_FAILED" in said
            heard.append(said)
        # A configuration in which everything stands in the wrong place.
        for wrong in (
            f'[[tokens]]\nsha256 = "{TOKEN}"\n',
            f'[limits]\nconnections = "{TOKEN}"\n',
            f'[jwt]\nalgorithms = ["HS256"]\naudience = "a"\nkey_file = "k"\nkeys = "{TOKEN}"\n',
            f'[[tokens]]\nsha256 = "{hash_token(TOKEN)}"\ntoken = "{TOKEN}"\n',
            f'[[tokens]]\nsha256 = "{hash_token(TOKEN)}"\n' * 2,
            f"{TOKEN}",
            f'[[tokens]]\nsha256 = "{TOKEN}',
        ):
            line = await broker.reload(wrong)
            assert line["level"] == "error"
            heard.append(str(line))
        await broker.reload(CONFIG.replace('name = "web"', 'name = "renamed"'))
        (tmp_path / "jwt.secret").write_bytes(FORGED[:20])
        assert (await broker.hang_up())["level"] == "error"
        (tmp_path / "jwt.secret").write_bytes(FORGED)
        await broker.hang_up()
        broker.process.send_signal(signal.SIGTERM)
        heard.append(await hear_all(watcher))
        while line_of_log := await broker.log.next():
            heard.append(line_of_log)
        heard.append(str(broker.logs))
    everything = "\n".join(heard)
    # It was really run through.
    for expected in (
        "$up",
        "$down",
        '"services"',
        '"failed_authentications"',
        "expired",
        "problem",
    ):
        assert expected in everything
    check(everything)


def test_the_commands_show_no_secret(tmp_path: Path) -> None:
    (tmp_path / "jwt.secret").write_bytes(SECRET)
    config = tmp_path / "broker.toml"
    config.write_text(CONFIG)
    runner = CliRunner()
    said = ""
    environ = {"SWITCHBOARD_TOKEN": MISTYPED, "SWITCHBOARD_CONFIG": None}
    for content in (CONFIG, CONFIG.replace("127.0.0.1", "0.0.0.0")):
        config.write_text(content)
        done = runner.invoke(main, ["check-config", str(config)], env=environ)
        assert done.exit_code == 0
        said += done.output
    for name in ("serve", "check-config"):
        (tmp_path / "jwt.secret").write_bytes(SECRET[:31])
        option = ["--config"] if name == "serve" else []
        done = runner.invoke(main, [name, *option, str(config)], env=environ)
        assert done.exit_code == 1
        said += done.output
    assert "jwt.key_file" in said
    assert "is not shown" in said
    check(said)


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    (tmp_path / "jwt.secret").write_bytes(SECRET)
    config = tmp_path / "broker.toml"
    config.write_text(CONFIG)
    settings = load_settings(config, {"SWITCHBOARD_TOKEN": MISTYPED})
    authenticator = Authenticator(settings)
    mesh = MemoryMesh(settings)
    shown = [repr(settings), repr(authenticator), repr(mesh.dispatcher.statistics())]
    for token in (TOKEN, JWTS[0]):
        credentials = Credentials(token)
        client = mesh.connect()
        client.identify("web", token=token)
        shown += [
            repr(credentials),
            repr(authenticator.authenticate(credentials, time.time())),
            repr(client.peer),
            repr(client.peer.member),
        ]
    shown += [repr(TokenSettings(hash_token(TOKEN)))]
    jwt_settings = JwtSettings(algorithms=("HS256",), audience="a", key_file="k", keys=SECRET)
    shown += [repr(jwt_settings), str(Settings(jwt=jwt_settings))]
    check("\n".join(shown))


@pytest.mark.parametrize("secret", secrets_to_search_for(), ids=lambda _: "secret")
def test_the_search_finds_what_it_searches_for(secret: str) -> None:
    with pytest.raises(AssertionError):
        check(f"a line of a log with {secret} in it")
