"""Hand connections on, each port's to one server: the only container that browsers reach.

    python -m mimic_reg_pipelines.deploy.gate 4200=prefect:4200 5000=mlflow:5000

The servers themselves are in a network without a way out. This program has no password and no file
of theirs, and connects to nothing else than what its arguments name.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

CHUNK = 1 << 16  # bytes


async def serve(routes: Sequence[str], host: str = "0.0.0.0") -> None:
    """Hand connections on until cancelled; a route is PORT=SERVER:PORT."""
    async with contextlib.AsyncExitStack() as opened:
        for route in routes:
            port, _, target = route.partition("=")
            await opened.enter_async_context(await _listen(host, int(port), target))
        await asyncio.Event().wait()


async def _listen(host: str, port: int, target: str) -> asyncio.Server:
    name, _, number = target.rpartition(":")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # the name is looked up every time: a container that starts again has another address
            inner_reader, inner_writer = await asyncio.open_connection(name, int(number))
        except OSError:
            writer.close()  # not up yet, or no more
            return
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        except OSError:
            pass  # one way broke: both ends must hear of it
        finally:
            writer.close()
            inner_writer.close()

    return await asyncio.start_server(connected, host, port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write all that is read, then say that it has ended."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
