"""Many HTTP requests at once, each on a connection of its own."""

from __future__ import annotations

import asyncio
import ssl

OK = b"HTTP/1.1 200 OK"


async def ask_at_once(
    number: int, port: int, context: ssl.SSLContext | None, path: str = "/"
) -> list[bytes]:
    """The beginnings of the answers; b"" where there was none."""
    return list(await asyncio.gather(*(ask(port, context, path) for _ in range(number))))


async def ask(port: int, context: ssl.SSLContext | None, path: str = "/") -> bytes:
    """The beginning of the answer to one request; b"" if there is none."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except OSError:
        return b""
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n".encode())
        return (await reader.read())[: len(OK)]
    except OSError:
        return b""
    finally:
        writer.close()
