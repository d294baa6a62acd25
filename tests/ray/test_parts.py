"""Rows, parts and what becomes of failures, without a cluster."""

import json
import os

import jax
import numpy as np
import pytest

from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.labels import Label
from m2f_jax.masks.rle import decode_rle

pa = pytest.importorskip("pyarrow", reason="needs ray (pip install m2f-jax[ray])")
pytest.importorskip("ray", reason="needs ray (pip install m2f-jax[ray])")
fs = pytest.importorskip("pyarrow.fs")
pq = pytest.importorskip("pyarrow.parquet")

from m2f_jax.ray import segmenting  # noqa: E402
from m2f_jax.ray.outcomes import outcomes_of  # noqa: E402
from m2f_jax.ray.parts import SCHEMA, Done, Parts, contents_of, digest_of, keys_of  # noqa: E402
from m2f_jax.ray.rows import segments_of  # noqa: E402
from m2f_jax.ray.uris import below, find  # noqa: E402

LABELS = (Label(id=7, name="cat", is_thing=True), Label(id=11, name="sky", is_thing=False))
MAP = np.array([[1, 1, 0], [1, 2, 2]])


def row(path, error=None, digest="00" * 16):
    if error is not None:
        return {"path": path, "error": error}
    facts = {"height": 2, "width": 3, "pages": 1, "segments": []}
    return {"path": path, "digest": digest, "error": None, **facts}


def masks(segments):
    return [decode_rle(x["counts"].encode(), MAP.shape).tolist() for x in segments]


def test_rows_of_every_task():
    panoptic = PanopticSegmentation(
        segment_map=MAP,
        segments=(
            Segment(id=1, label=1, is_thing=False, score=0.75),
            Segment(id=2, label=0, is_thing=True, score=0.5),
        ),
    )
    sky, cat = segments_of(panoptic, LABELS)
    assert masks([sky, cat]) == [(MAP == 1).tolist(), (MAP == 2).tolist()]
    sky.pop("counts"), cat.pop("counts")
    assert sky == {
        "category_id": 11,
        "label": "sky",
        "isthing": False,
        "score": 0.75,
        "bbox": [0, 0, 2, 2],
        "area": 3,
    }
    assert cat["bbox"] == [1, 1, 2, 1]
    semantic = segments_of(MAP // 2, LABELS)
    assert [(x["category_id"], x["score"], x["area"]) for x in semantic] == [
        (7, None, 4),
        (11, None, 2),
    ]
    assert masks(semantic) == [(MAP != 2).tolist(), (MAP == 2).tolist()]
    found = InstanceSegmentation.from_masks(
        scores=np.array([0.5, 0.25], np.float32),
        labels=np.array([0, 0]),
        masks=np.stack([MAP == 2, MAP == 9]),
        queries=np.arange(2),
    )
    instances = segments_of(found, LABELS)
    assert masks(instances) == found.masks.tolist()
    assert [x["bbox"] for x in instances] == [[1, 1, 2, 1], [0, 0, 0, 0]]
    assert pa.Table.from_pylist([row("a") | {"segments": instances}], SCHEMA).num_rows == 1


def test_the_images_that_are_done():
    paths = [f"s3://bucket/{i}" for i in range(300)]
    contents = [digest_of(bytes([i % 7])).hex() for i in range(300)]
    done = Done(keys_of(paths), contents_of(contents))
    assert len(done) == 300
    assert done.content(paths[3]) == np.array(digest_of(bytes([3])), "S16")
    assert done.content(paths[4]) != done.content(paths[3])
    assert done.content("s3://bucket/300") is None
    assert Done(keys_of([]), contents_of([])).content("a") is None


@pytest.fixture(scope="module")
def bucket():
    """A bucket of S3 on this machine."""
    server = pytest.importorskip("moto.server", reason="needs the extra dev: moto, flask-cors")
    running = server.ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    host, port = running.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        filesystem, _ = fs.FileSystem.from_uri("s3://any?allow_bucket_creation=true")
        filesystem.create_dir("bucket")
        yield "s3://bucket"
    running.stop()


@pytest.fixture(params=["disk", "mock", "s3"])
def parts(request, tmp_path) -> Parts:
    """A folder on a disk, one where files can't be renamed, and one in a bucket of S3."""
    if request.param == "disk":
        return Parts.at(tmp_path / "out")
    if request.param == "mock":
        return Parts("mock://out", fs._MockFileSystem(), "out")
    return Parts.at(f"{request.getfixturevalue('bucket')}/{request.node.name}/out")


def test_runs_of_other_settings_are_refused(parts):
    parts.open({"task": "instance"}, {"model": "a"}, overwrite=False)
    parts.add([row("a"), row("b", "it is broken")])
    parts.write_json("summary.json", {})
    with pytest.raises(FileExistsError, match=r"out holds results of other settings \(task\)"):
        parts.open({"task": "panoptic"}, {"model": "a"}, overwrite=False)
    parts.open({"task": "instance"}, {"model": "b"}, overwrite=False)
    assert parts.done().content("a") is not None
    assert parts.done().content("b") is None  # tried again
    folders = [f"{parts.path}/{name}" for name in ("failed", "images")]
    listed = [parts.filesystem.get_file_info(fs.FileSelector(folder)) for folder in folders]
    assert [len(files) for files in listed] == [0, 1]
    assert parts.filesystem.get_file_info(f"{parts.path}/summary.json").type == fs.FileType.NotFound
    parts.open({"task": "panoptic"}, {"model": "b"}, overwrite=True)
    assert not len(parts.done())
    parts.write("run.json", json.dumps({"format": 2, "settings": {}}).encode())
    with pytest.raises(FileExistsError, match="out holds other results"):
        parts.open({}, {}, overwrite=False)


def test_a_batch_that_is_done_again_replaces_itself(parts):
    parts.open({}, {}, overwrite=False)
    for digest in ("00" * 16, "01" * 16):
        parts.add([row("a", digest=digest), row("b"), row("c", "it is broken")])
    done = parts.done()
    assert len(done) == 2
    assert done.content("a") == np.array(bytes.fromhex("01" * 16), "S16")


def test_folders_that_hold_other_things_are_refused(tmp_path):
    parts = Parts.at(tmp_path)
    (tmp_path / "mine").touch()
    with pytest.raises(FileExistsError, match="holds other files; choose another folder"):
        parts.open({}, {}, overwrite=False)
    (tmp_path / "mine").unlink()
    parts.open({}, {}, overwrite=False)
    broken = tmp_path / "images" / "a.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(
        ValueError, match=rf"{broken} can't be read \(.*\); if it is damaged, remove it"
    ):
        parts.done()
    with pytest.raises(ValueError, match="nfs://a/b is of no file system that is known here"):
        Parts.at("nfs://a/b")


def test_where_a_device_fails_one_image_does():
    tried = []

    def segment(jobs):
        tried.append(jobs)
        if "large" in jobs:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore")
        return [(job, len(jobs)) for job in jobs]

    *others, (name, error) = sorted(outcomes_of(segment, ["a", "b", "large"]))
    assert others == [("a", 1), ("b", 1)]
    assert name == "large"
    assert segmenting.failure("s3://large.png", error) == {
        "path": "s3://large.png",
        "error": "s3://large.png: RESOURCE_EXHAUSTED: Out of memory",
    }
    assert tried[0] == ["a", "b", "large"]


def test_files_and_folders_are_listed(tmp_path):
    for name in ("b/2.PNG", "b/c/1.jpg", "b/notes.txt", "a.txt", "empty/x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    folder, file = tmp_path / "b", tmp_path / "a.txt"
    wanted = [str(file), f"{folder}/2.PNG", f"{folder}/c/1.jpg"]
    assert segmenting.list_images([file, f"{folder}/"]) == wanted
    assert segmenting.list_images([f"file://{folder}"]) == [f"file://{x}" for x in wanted[1:]]
    with pytest.raises(OSError, match=f"{folder}/n.* can't be reached .*; check its name, the net"):
        segmenting.list_images([f"{folder}/{'n' * 300}"])
    with pytest.raises(FileNotFoundError, match="empty holds no images"):
        segmenting.list_images([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        segmenting.list_images([tmp_path / "nowhere"])


def test_files_that_cannot_be_read_are_named(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"a")
    assert segmenting.file_of((str(file), None)) == b"a"
    assert segmenting.file_of((f"file://{file}", None)) == b"a"
    assert segmenting.file_of(("anything", b"b")) == b"b"
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        segmenting.file_of((str(tmp_path / "nowhere"), None))
    with pytest.raises(ValueError, match="nfs://a/b is of no file system"):
        segmenting.file_of(("nfs://a/b", None))


ODD = ["a b.png", "100%.png", "ü%41.png", "c[1]#2.png", "d+?e=f.png"]


def fill(filesystem, folder):
    filesystem.create_dir(folder)
    for name in ODD:
        with filesystem.open_output_stream(f"{folder}/{name}") as file:
            file.write(name.encode())


@pytest.mark.parametrize("place", ["file://{}", "s3", "s3 with options"])
def test_all_names_are_read_by_uri(place, tmp_path, request):
    options = ""
    if place.startswith("s3"):
        folder = f"{request.getfixturevalue('bucket')}/my photos"
        options = "?scheme=http" if place != "s3" else ""
    else:
        folder = place.format(tmp_path / "my photos")
    fill(*find(folder + options))
    listed = segmenting.list_images([f"{folder}/{options}"])
    assert [segmenting.file_of((x, None)).decode() for x in listed] == sorted(ODD)
    names = ["100%25.png", "a b.png", "c[1]%232.png", "d+%3Fe=f.png", "ü%2541.png"]
    assert listed == [f"{folder}/{name}{options}" for name in names]
    assert segmenting.list_images([folder.replace(" ", "%20") + options]) == [
        x.replace("my photos", "my%20photos") for x in listed
    ]


@pytest.mark.usefixtures("bucket")
def test_buckets_that_are_not_there_are_named():
    with pytest.raises(FileNotFoundError, match="s3://nowhere/photos is missing"):
        segmenting.list_images(["s3://nowhere/photos"])
    with pytest.raises(OSError, match=r"^s3://nowhere/out can't be reached \(.*not found.*check"):
        Parts.at("s3://nowhere/out").open({}, {}, overwrite=False)
    with pytest.raises(OSError, match=r"^s3://nowhere/out/a can't be reached \("):
        Parts.at("s3://nowhere/out").write("a", b"")


def test_a_bucket_is_connected_to_once(bucket):
    found = [find(f"{bucket}/{name}") for name in ("a", "b/c")]
    assert found[0][0] is found[1][0]
    assert [path for _, path in found] == ["bucket/a", "bucket/b/c"]
    assert below(os.path.abspath("x"), "y") == os.path.abspath("x/y")
