"""The page under load: answers are counted and compared, memory is read."""

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import app
import numpy as np
import pytest

pytest.importorskip("httpx", reason="needs the extra app: gradio")
RIGHT = 20  # answers of a server that goes wrong then


class Page(BaseHTTPRequestHandler):
    """Answers with the picture's digest; refuses its third request, as if it were busy."""

    def do_POST(self):
        address = urlsplit(self.path)
        assert address.path == "/segment"
        [name] = parse_qs(address.query)["name"]
        body = self.rfile.read(int(self.headers["content-length"]))
        page = self.server
        with page.lock:
            page.count += 1
            number = page.count
        answer = {"file_name": name, "segments": [hashlib.sha256(body).hexdigest()]}
        if number - 1 > RIGHT:  # but for the one that was refused
            answer |= page.fault
        answer = json.dumps(answer).encode()
        self.send_response(503 if number == 3 else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Says nothing."""


@contextlib.contextmanager
def serving(fault):
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.fault, server.count, server.lock = fault, 0, threading.Lock()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield app.Served(
                "http://{}:{}".format(*server.server_address), lambda: app.memory_of("self")
            )
        finally:
            server.shutdown()
            thread.join()


def street(_, number, size):
    return SimpleNamespace(image=np.full((*size, 3), 20 * number, np.uint8))


FAULTS = {
    "none": ({}, 0),
    "another's": ({"segments": ["0"]}, 24 + 9 - RIGHT),
    "misnamed": ({"file_name": "0.jpg"}, 24 + 9 - RIGHT),
}


@pytest.mark.parametrize(("fault", "wrong"), FAULTS.values(), ids=FAULTS)
def test_the_load_of_clients(fault, wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(app, "served", lambda _: serving(fault))
    monkeypatch.setattr(app, "check_installed", lambda _: None)
    monkeypatch.setattr(app, "street_scene", street)
    path = tmp_path / "report.json"
    arguments = ["--requests", 24, "--clients", 5, "--size", 32, 64, "--json", path]
    with pytest.raises(SystemExit, match="lost or wrong") if wrong else contextlib.nullcontext():
        app.main([str(x) for x in arguments])
    report = json.loads(path.read_text())
    one, many = report["load"]
    assert [one["requests"], many["requests"]] == [app.PICTURES, 24]
    assert [one["lost or wrong"], many["lost or wrong"]] == [0, wrong]
    assert [one["asked again"], many["asked again"]] == [1, 0]
    assert many["pictures/s"] > 0
    assert many["median, ms"] <= many["95 of 100 within, ms"]
    assert [row["when"] for row in report["memory"]] == [
        "at the start",
        "after the first picture",
        "after 20 answers to 5 clients",
        "after 24 answers",
    ]
    assert all(0 < row["MiB"] <= row["most so far, MiB"] for row in report["memory"])
    assert "5 clients" in capsys.readouterr().out
