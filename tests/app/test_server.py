"""The API over loopback: answers, refusals, nothing of the server's files, many at once."""

import concurrent.futures
import gc
import io
import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from PIL import Image

from tests.app.conftest import BrightPixels

httpx = pytest.importorskip("httpx", reason="needs the extra app: gradio")
gradio_client = pytest.importorskip("gradio_client", reason="needs the extra app: gradio")
http = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))

pytestmark = pytest.mark.filterwarnings("ignore")  # of gradio and what it is made of


def picture(height=20, width=32, kind="PNG"):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[5:15, 4:28] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def error_of(response, status):
    assert response.status_code == status, response.text
    return response.json()["error"]


def test_an_answer_has_what_was_found(address):
    options = {"task": "instance", "threshold": 0, "name": "a.png"}
    answer = http.post(f"{address}/segment", params=options, content=picture()).json()
    assert {**answer, "segments": None} == {
        "file_name": "a.png",
        "task": "instance",
        "size": [20, 32],
        "segments": None,
    }
    left, right = answer["segments"]
    assert [left["class"], left["category_id"], left["bbox"]] == ["car", 26, [4, 5, 12, 10]]
    assert left["area"] == 120
    assert left["color"] != right["color"]
    mask = coco_mask.decode(right["segmentation"]).astype(bool)
    assert mask[5:15, 16:28].all()
    assert mask.sum() == 120
    options |= {"top_k": 1}
    first = http.post(f"{address}/segment", params=options, content=picture()).json()
    assert [x["score"] for x in first["segments"]] == [left["score"]]
    for task, names in (("panoptic", {"road", "car"}), ("semantic", {"road", "car"})):
        answer = http.post(f"{address}/segment", params={"task": task}, content=picture()).json()
        assert {x["class"] for x in answer["segments"]} == names
        assert sum(x["area"] for x in answer["segments"]) == 20 * 32


def test_refusals_are_sentences(address):
    def refused(content, status=422, **options):
        response = http.post(f"{address}/segment", params=options, content=content)
        return error_of(response, status)

    assert "a.png can't be read as an image" in refused(b"no picture", name="a.png")
    assert "can't be read as an image" in refused(picture()[:60])
    assert "instance, panoptic or semantic" in refused(picture(), task="depth")
    assert "from 0 to 1" in refused(picture(), threshold="nan")
    assert "from 1 to 100" in refused(picture(), top_k=0)
    assert "top_k" in refused(picture(), top_k="many")
    assert "1 MiB" in refused(bytes(2**20 + 1), 413)
    assert "1 MiB" in refused(iter([bytes(2**19)] * 3), 413)  # of no stated length
    assert "the terminal" in refused(picture(13, 13), 500)


def test_too_many_pixels_are_refused(address, monkeypatch):
    monkeypatch.setattr("m2f_jax.pixel_limit._max_pixels", 100)
    response = http.post(f"{address}/segment", content=picture())
    assert "100 are allowed" in error_of(response, 422)


def test_only_this_machines_own_pages_are_answered(address):
    stranger = {"host": "rebound.example"}
    assert "own machine" in error_of(http.get(address, headers=stranger), 403)
    foreign = {"origin": "https://other.example"}
    response = http.post(f"{address}/segment", headers=foreign, content=picture())
    assert "other sites" in error_of(response, 403)


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://a.b", "/docs", "/static/x"]
)
def test_gradios_own_files_and_pages_are_closed(address, path):
    assert "nothing here" in error_of(http.get(address + path), 404)
    assert http.get(f"{address}/page/..%2Fserver.py").status_code == 404


def test_gradios_client(address, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    client = gradio_client.Client(address, verbose=False)
    before = folders()
    sent = gradio_client.handle_file(path)
    answer = client.submit(sent, "instance", 0, api_name="/segment").result(timeout=60)
    assert [answer["file_name"], len(answer["segments"])] == ["a.png", 2]
    assert folders() == before  # nothing is left on the disk
    path.write_bytes(b"no picture")
    with pytest.raises(gradio_client.exceptions.AppError, match=r"a\.png can't be read"):
        client.submit(gradio_client.handle_file(path), api_name="/segment").result(timeout=60)


def folders():
    return sorted(
        Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir(), "gradio").rglob("*")
    )


@pytest.mark.parametrize("where", ["/etc/hostname", "http://example.com/a.png", "../../etc/passwd"])
def test_paths_and_addresses_are_not_read(address, where, monkeypatch):
    monkeypatch.setattr("m2f_jax.app.engine.decode_image", None)
    for meta in ({"meta": {"_type": "gradio.FileData"}}, {}):
        body = {"data": [{"path": where, **meta}, "instance", 0, 1]}
        event = http.post(f"{address}/gradio_api/call/segment", json=body).json()["event_id"]
        told = http.get(f"{address}/gradio_api/call/segment/{event}").text
        assert "event: error" in told
        assert "segments" not in told


def test_uploads_are_good_once_and_go():
    from m2f_jax.app.uploads import Uploads

    now = [0.0]
    uploads = Uploads("/gradio", most=2, seconds=10.0, clock=lambda: now[0])
    keys = [uploads.add("a/b.png", bytes([i])) for i in range(3)]
    with pytest.raises(ValueError, match="must be uploaded"):
        uploads.take(keys[0])  # there are too many
    assert uploads.take(keys[1]) == ("a_b.png", b"\1")
    with pytest.raises(ValueError, match="must be uploaded"):
        uploads.take(keys[1])
    now[0] = 11.0
    uploads.add("c.png", b"")
    with pytest.raises(ValueError, match="must be uploaded"):
        uploads.take(keys[2])


def count_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def test_two_hundred_requests_of_twenty_clients(address):
    BrightPixels.together = 0
    sizes = range(20, 40)

    def ask(client, size):
        answer = client.post(f"{address}/segment", params={"threshold": 0}, content=picture(size))
        return answer.json()["size"] == [size, 32]

    def ask_often(size, times):
        with httpx.Client(timeout=120, verify=False) as client:  # without certificates, on HTTP
            return [ask(client, size) for _ in range(times)]

    with concurrent.futures.ThreadPoolExecutor(len(sizes)) as pool:
        assert all(map(all, pool.map(ask_often, sizes, itertools.repeat(5))))
        counts = [count_objects()]
        # Connections that still close and threads that start are counted, too, but not every time.
        while len(counts) < 5 and (len(counts) < 2 or counts[-1] - counts[-2] >= 100):
            assert sum(map(sum, pool.map(ask_often, sizes, itertools.repeat(10)))) == 200
            counts.append(count_objects())
        # In one of the rounds, less than half an object that a request leaves behind.
        assert counts[-1] - counts[-2] < 100, counts
    assert BrightPixels.together == 1
