"""Refuses requests to unknown addresses, from other sites' pages, and of too many bytes."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of all that gradio serves, what its client needs; not its files, proxies and pages.
GRADIO = (
    "/config",
    "/gradio_api/call/segment",
    "/gradio_api/heartbeat/",
    "/gradio_api/info",
    "/gradio_api/queue/data",
    "/gradio_api/queue/join",
    "/gradio_api/startup-events",
    "/gradio_api/upload",
)
OURS = ("/about", "/examples/", "/page/", "/preview", "/segment")
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class TooLargeError(Exception):
    """A request has more bytes than are allowed."""


class Guard:
    """Middleware that refuses requests before their content is read.

    Attributes:
        app: what answers the requests that aren't refused.
        max_bytes: the most bytes of a request.
        hosts: the names by which the server may be called; None for any. They keep out a page on
            the internet whose own name leads to this machine.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, hosts: tuple[str, ...] | None):
        self.app = app
        self.max_bytes = max_bytes
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self.refusal(scope["path"], Headers(scope=scope))
        if refused is not None:
            status, why = refused
            await JSONResponse({"error": why}, status)(scope, receive, send)
            return
        received, started = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise TooLargeError
            return message

        async def with_headers(message: Message):
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                known = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *(x for x in more if x[0] not in known)]
            await send(message)

        try:
            await self.app(scope, counted, with_headers)
        except TooLargeError:
            if not started:
                await JSONResponse({"error": self.too_large()}, 413)(scope, receive, send)

    def refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        """Returns the HTTP status and the reason if a request is refused, else None."""
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if self.hosts is not None and host not in self.hosts:
            return 403, "this server answers only to its own machine; see m2f app --host"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, "requests of other sites' pages are refused"
        if path != "/" and not path.startswith(OURS + GRADIO):
            return 404, "there is nothing here"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_bytes:
            return 413, self.too_large()
        return None

    def too_large(self) -> str:
        """Returns a sentence that says how many bytes are allowed."""
        return (
            f"the file is larger than {self.max_bytes / 2**20:.0f} MiB; shrink it, or allow more "
            "with m2f app --max-upload"
        )
