"""The yardstick: aiohttp at its barest, which hands on v2's JSON unread.

Usage: passthrough.py UPSTREAM PORT, such as http://127.0.0.1:9001/v2 9007.
"""

import asyncio
import sys

import aiohttp
import uvloop
import yarl
from aiohttp import web


async def _main(upstream: str, port: int) -> None:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=100), cookie_jar=aiohttp.DummyCookieJar()
    )

    async def serve(request: web.BaseRequest) -> web.Response:
        invoice = request.path.split("/")[2]
        url = yarl.URL(f"{upstream}/invoices/{invoice}/messages?per_page=2000", encoded=True)
        headers = {"Authorization": request.headers["Authorization"]}
        async with session.get(url, headers=headers) as answer:
            return web.Response(
                body=await answer.read(),
                status=answer.status,
                headers={"Content-Type": answer.headers["Content-Type"]},
            )

    runner = web.ServerRunner(web.Server(serve, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_main(sys.argv[1], int(sys.argv[2])))
