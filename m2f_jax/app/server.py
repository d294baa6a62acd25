"""The server: the page, an HTTP address to post pictures to, and an endpoint of gradio's API."""

import logging
import os
from importlib import resources
from typing import Any, Literal

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read as gradio is imported and launched

import gradio
from fastapi import Request as HttpRequest
from fastapi import Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from gradio import processing_utils

from m2f_jax.app.engine import EXAMPLES, TASKS, TOP_K, Engine, Request, example, preview
from m2f_jax.app.guard import Guard, TooLargeError
from m2f_jax.app.line import BusyError, Line
from m2f_jax.app.uploads import Uploads


async def refuse_address(*_: Any, **__: Any):
    """Stands in for gradio's download of addresses that clients send in place of a picture."""
    raise gradio.Error("addresses aren't read; upload the picture", print_exception=False)


processing_utils.async_ssrf_protected_download = refuse_address

logger = logging.getLogger("m2f_jax")

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
FAILED = "the model failed on this picture; the terminal of m2f app says why"


def make_server(engine: Engine, *, max_bytes: int, local: bool) -> gradio.Server:
    """Returns a server, to be launched.

    It keeps nothing: pictures are in memory until they are answered, and answers until they are
    sent.

    Args:
        engine: the model.
        max_bytes: the most bytes of a request.
        local: whether it is for this machine only, and answers to no other name.
    """
    server = gradio.Server(title="m2f app", docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(Guard, max_bytes=max_bytes, hosts=LOOPBACK if local else None)
    server.add_exception_handler(RequestValidationError, refuse_parameters)
    line, uploads = Line(), Uploads(server.uploaded_file_dir)
    pages = {
        file.name: (file.read_bytes(), KINDS[os.path.splitext(file.name)[1]])
        for file in resources.files("m2f_jax.app").joinpath("page").iterdir()
    }

    @server.get("/")
    @server.get("/page/{name}")
    async def page(name: str = "index.html") -> Response:
        if name not in pages:
            return sentence(404, "there is nothing here")
        content, kind = pages[name]
        return Response(content, media_type=kind)

    @server.get("/about")
    async def about() -> dict[str, Any]:
        return {
            "model": engine.source,
            "note": engine.note,
            "task": engine.task,
            "tasks": TASKS,
            "top_k": TOP_K,
            "examples": EXAMPLES,
            "max_bytes": max_bytes,
            "categories": [
                {"id": x.id, "name": x.name, "isthing": int(x.is_thing)} for x in engine.labels
            ],
        }

    @server.get("/examples/{index}.jpg")
    def drawn(index: int) -> Response:
        if not 0 <= index < EXAMPLES:
            return sentence(404, "there is no such example")
        return Response(example(index), media_type="image/jpeg")

    @server.post("/preview")
    async def show(request: HttpRequest, name: str = "the picture") -> Response:
        try:
            content = await line.call(preview, await request.body(), name)
        except Exception as error:
            return failure(error)
        return Response(content, media_type="image/jpeg")

    @server.post("/segment")
    async def segment(
        request: HttpRequest,
        name: str = "the picture",
        task: str = engine.task,
        threshold: float = 0.5,
        top_k: int = TOP_K,
    ) -> Response:
        try:
            wanted = Request(task, threshold, top_k)
            return JSONResponse(await line.call(engine.segment, await request.body(), name, wanted))
        except Exception as error:
            return failure(error)

    @server.post("/gradio_api/upload")
    async def upload(files: list[UploadFile]) -> list[str]:
        return [uploads.add(file.filename or "picture", await file.read()) for file in files]

    # The queue is the same for all endpoints, so gradio's own limit is lifted.
    @server.api(name="segment", concurrency_limit=None)
    async def segment_upload(
        picture: dict,
        task: Literal["instance", "panoptic", "semantic"] = engine.task,
        threshold: float | int = 0.5,
        top_k: int = TOP_K,
    ) -> dict:
        """Segments one picture; see docs/app.md for what is returned."""
        try:
            wanted = Request(task, float(threshold), top_k)
            name, data = uploads.take(picture.get("path") if isinstance(picture, dict) else None)
            return await line.call(engine.segment, data, name, wanted)
        except (ValueError, TypeError, BusyError) as error:
            raise gradio.Error(str(error), print_exception=False) from error

    return server


def launch(server: gradio.Server, host: str, port: int | None) -> str:
    """Starts a server in the background, and returns its address.

    Args:
        server: what `make_server` returned.
        host: the address to listen at.
        port: the port to listen at; by default the first that is free from 7860 on.

    Raises:
        ValueError: it can't listen there.
    """
    try:
        _, address, _ = server.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            run_history=False,
            pwa=False,
            mcp_server=False,
            _frontend=False,
        )
    except OSError as error:
        where = "from 7860 to 7959" if port is None else port
        raise ValueError(
            f"can't listen at {host}, port {where}; choose another --port or --host"
        ) from error
    return address


async def refuse_parameters(_: HttpRequest, error: Exception) -> JSONResponse:
    """Names the first parameter that can't be understood."""
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    return sentence(422, f"{first.get('loc', ['?'])[-1]}: {first.get('msg', 'invalid')}")


def failure(error: Exception) -> JSONResponse:
    """Returns an error as a sentence; a traceback of an unforeseen one goes to the terminal."""
    if isinstance(error, TooLargeError):
        raise error  # to the guard
    if isinstance(error, BusyError):
        return sentence(503, str(error))
    if isinstance(error, ValueError):
        return sentence(422, str(error))
    logger.error("a picture failed", exc_info=error)
    return sentence(500, FAILED)


def sentence(status: int, text: str) -> JSONResponse:
    """Returns a refusal that says why."""
    return JSONResponse({"error": text}, status)
