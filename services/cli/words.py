"""The SDK's words, as the command line has them."""

from __future__ import annotations

from typing import Final

__all__ = ["in_words_of_the_command"]


def in_words_of_the_command(text: str) -> str:
    """Put the SDK's words for its arguments into those of the command line."""
    for words, option in _SAID_AS:
        text = text.replace(words, option)
    return text


_SAID_AS: Final = (
    ("tls=Tls(certificate=..., key=...)", "--cert and --key"),
    ("tls=Tls(ca=...)", "--ca"),
    ("tls=Tls(server_name=...)", "--server-name"),
    ("tls: a key belongs to a certificate: give certificate= too", "--key belongs to --cert"),
    ("tls= is for", "--ca, --cert, --key and --server-name are for"),
    ("tls: ", ""),
    ("group=", "--group"),
    ("pick=", "--one"),
    ("key=", "--sticky"),
    ("to=", "--to"),
    ("token=", "--token"),
    ("buffer=", "--buffer"),
)
