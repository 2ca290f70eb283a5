"""No request body outside of uploads is larger than 4 MiB: the framework reads a body whole, and before it asks for the token."""

import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 4 * 2**20  # bytes
# This much is read and thrown away before the refusal: a client that is still sending might lose the answer with its connection.
_READ_AWAY = 4 * MAX_BODY


class BodyLimit:
    """Plain ASGI: counts the bytes as they come, whatever Content-Length says. `streamed` matches the paths that have a limit of their own."""

    def __init__(self, app: ASGIApp, *, streamed: re.Pattern[str]) -> None:
        self.app = app
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises HTTPException 413 out of `receive`, that is within the route that reads the body, so that it is answered like any refusal."""
        if scope["type"] != "http" or self.streamed.fullmatch(scope["path"].removeprefix(scope.get("root_path", ""))):
            await self.app(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size <= MAX_BODY:
                return message
            while message.get("more_body") and size <= _READ_AWAY:
                message = await receive()
                size += len(message.get("body", b""))
            raise HTTPException(413, f"The request body is larger than {MAX_BODY // 2**20} MiB. Only uploads take larger ones.")

        await self.app(scope, counted, send)
