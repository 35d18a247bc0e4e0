"""An MCP server of the official SDK, whose tools tell how long they took.

POST, GET, DELETE /mcp    streamable HTTP, in all revisions that the SDK speaks
GET /took                 how long tools really took
"""

from __future__ import annotations

import asyncio

from mcp.server.mcpserver import Context, MCPServer
from timed import ROUTE, timed

# Else it draws a traceback of a tool that fails, which takes the SDK a tenth of a
# second, and every other call of the process waits for it.
server = MCPServer("library", log_level="CRITICAL")


@server.tool()
async def search(query: str, context: Context) -> list[str]:
    """Say how far it is, while it searches."""
    with timed(context.request_id):
        for step in range(1, 4):
            await asyncio.sleep(0.01)
            await context.report_progress(step, 3, f"shelf {step}")
        return [f"a book on {query}", f"another on {query}"]


@server.tool()
async def lend(title: str, context: Context) -> str:
    """Fail."""
    with timed(context.request_id):
        await asyncio.sleep(0.02)
        raise ValueError(f"{title} is not here")


@server.tool()
async def rearrange(context: Context) -> str:
    """Tell whoever listens that the tools are others now."""
    with timed(context.request_id):
        await asyncio.sleep(0.01)
        await context.session.send_tool_list_changed()
        await context.notify_tools_changed()
        return "done"


app = server.streamable_http_app()
app.router.routes.append(ROUTE)
