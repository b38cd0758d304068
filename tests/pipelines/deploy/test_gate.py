"""The gate hands connections on, whatever happens at either end."""

import asyncio
import contextlib

import pytest

from mimic_reg_pipelines.deploy import gate
from tests.postgresql import free_port


@contextlib.asynccontextmanager
async def gated(port, target):
    task = asyncio.create_task(gate.serve([f"{port}=127.0.0.1:{target}"], "127.0.0.1"))
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def doubled(reader, writer):
    """Answer once the question has ended."""
    writer.write(2 * await reader.read())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(port, content):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_bytes_pass_unchanged_in_both_directions(size):
    port, target = free_port(), free_port()

    async def main():
        async with await asyncio.start_server(doubled, "127.0.0.1", target), gated(port, target):
            return await asyncio.gather(*(ask(port, bytes([i]) * size) for i in range(4)))

    assert asyncio.run(main()) == [2 * bytes([i]) * size for i in range(4)]


def test_a_server_that_is_not_there_ends_the_connection_and_may_come_later():
    port, target = free_port(), free_port()

    async def main():
        async with gated(port, target):
            before = await ask(port, b"")
            async with await asyncio.start_server(doubled, "127.0.0.1", target):
                return before, await ask(port, b"x")

    assert asyncio.run(main()) == (b"", b"xx")


def test_a_client_that_goes_away_frees_the_server():
    port, target = free_port(), free_port()
    ended = []

    async def endless(reader, writer):
        with contextlib.suppress(OSError):
            while True:
                writer.write(bytes(100_000))
                await writer.drain()
        writer.close()
        ended.append(True)

    async def main():
        async with await asyncio.start_server(endless, "127.0.0.1", target), gated(port, target):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.abort()
            for _ in range(100):
                if ended:
                    break
                await asyncio.sleep(0.05)

    asyncio.run(main())
    assert ended
