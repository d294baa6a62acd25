"""Street scenes: exact labels, the same everywhere; Cityscapes' files; interrupted writing."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.datasets.published.cityscapes import cityscapes_images
from m2f_jax.labels import CITYSCAPES, things
from m2f_jax.streets import StreetScene, street_scene, write_streets
from m2f_jax.streets import files as street_files
from m2f_jax.streets.drawing.canvas import Canvas, inside, rasterise
from m2f_jax.streets.drawing.randomness import Random
from m2f_jax.streets.drawing.stage import nearer

SMALL = (128, 256)
IMAGES = 12
THINGS = {label.id for label in things(CITYSCAPES)}
STUFF = {label.id for label in CITYSCAPES} - THINGS
SCENES = [  # of seed 0: index, checksum of the instance ids, mean color
    (0, "fddae62517664c5a", (82.64, 85.34, 88.32)),
    (1, "3a206638e5f02fda", (84.23, 93.38, 82.70)),
    (2, "585c83ee4aff88db", (111.00, 92.84, 88.41)),
]
COMMAND = "import sys; from m2f_jax.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def scenes():
    return [street_scene(0, index, SMALL) for index in range(3)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A data set written by the command, in a process of its own."""
    folder = tmp_path_factory.mktemp("streets") / "data"
    arguments = ["streets", str(folder), "--images", str(IMAGES), "--size", "128x256"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"{folder}: {IMAGES} val images of 128 x 256, seed 0; {IMAGES} drawn now\n"
    )
    return folder


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def checksum(pixels):
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


def objects(ids):
    return {int(k): n for k, n in zip(*np.unique(ids, return_counts=True), strict=True) if k > 999}


@pytest.mark.parametrize(("index", "labels", "color"), SCENES)
def test_scenes_never_change(scenes, index, labels, color):
    """If they should change, raise files.VERSION, so that data sets aren't mixed."""
    assert street_files.VERSION == 1
    assert checksum(scenes[index].instance_ids.astype("<i4")) == labels
    np.testing.assert_allclose(scenes[index].image.mean(axis=(0, 1)), color, atol=0.01)


def test_a_scene_depends_on_its_seed_and_index_alone(scenes):
    again = street_scene(0, 1, SMALL)  # after others, and not after scene 0
    np.testing.assert_array_equal(again.image, scenes[1].image)
    np.testing.assert_array_equal(again.instance_ids, scenes[1].instance_ids)
    other = street_scene(1, 0, SMALL)
    for scene in scenes:
        assert (other.instance_ids != scene.instance_ids).mean() > 0.2


@pytest.mark.parametrize("size", [(131, 259), (300, 256)])
def test_sizes(size):
    scene = street_scene(0, 2, size)
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.instance_ids.shape == size
    check_ids(scene.instance_ids)


def test_a_larger_scene_shows_the_same_street(scenes):
    large = street_scene(0, 0, (256, 512))
    check_ids(large.instance_ids)
    assert (large.label_ids[::2, ::2] == scenes[0].label_ids).mean() > 0.9


@pytest.mark.parametrize("size", [(127, 256), (128, 255), (0, 0)])
def test_too_small(size):
    with pytest.raises(ValueError, match=rf"at least 128 x 256 .* got {size[0]} x {size[1]}"):
        street_scene(0, 0, size)


def test_negative_numbers():
    with pytest.raises(ValueError, match="got -1 and 0"):
        street_scene(-1, 0)
    with pytest.raises(ValueError, match="got 0 and -2"):
        street_scene(0, -2)


def check_ids(ids):
    """Classes of Cityscapes, objects numbered from 0 in each class, none too small to see."""
    counts = objects(ids)
    assert set(np.where(ids < 1000, ids, ids // 1000).ravel().tolist()) <= set(range(1, 34))
    assert min(counts.values()) >= 25
    classes = Counter(k // 1000 for k in counts)
    assert set(classes) <= THINGS | {29, 30}
    assert set(counts) == {c * 1000 + k for c, n in classes.items() for k in range(n)}


def test_ids(scenes):
    for scene in scenes:
        check_ids(scene.instance_ids)
        ids = scene.instance_ids
        np.testing.assert_array_equal(scene.label_ids, np.where(ids < 1000, ids, ids // 1000))


def test_colors_follow_labels(scenes):
    """Sky is brighter than road, and every object differs from its image as a whole."""
    for scene in scenes:
        brightness = scene.image.mean(axis=2)
        labels = scene.label_ids
        assert brightness[labels == 23].mean() > brightness[labels == 7].mean()
        assert brightness[labels == 1].std() > 0


def test_what_there_is_to_see(tree):
    """Enough of everything in a few small images: objects, stuff, groups, void."""
    per_image, classes, labels, groups = [], Counter(), Counter(), set()
    for image in cityscapes_images(tree, "val", ["_instanceIds.png"]):
        ids = read(image.instance_ids).astype(int)
        check_ids(ids)
        counts = objects(ids)
        per_image.append(len(counts))
        classes.update(k // 1000 for k in counts)
        labels.update(np.unique(np.where(ids < 1000, ids, ids // 1000)).tolist())
        groups |= set(np.unique(ids).tolist()) & THINGS
    assert min(per_image) >= 2
    assert 5 <= np.mean(per_image) <= 30
    assert classes[26] > classes[24] > classes[25] > 0
    assert classes[33] > 0
    assert sum(classes[rare] for rare in (27, 28, 31, 32)) > 3
    assert set(labels) >= STUFF
    assert labels[7] == labels[11] == labels[1] == labels[3] == IMAGES
    assert {2, 4, 9} <= set(labels)
    assert {24, 26} <= groups


def test_the_tree_is_that_of_cityscapes(tree, scenes):
    for folder, endings in (
        ("leftImg8bit", ["leftImg8bit"]),
        ("gtFine", [f"gtFine_{x}" for x in ("color", "instanceIds", "labelIds", "labelTrainIds")]),
    ):
        names = {path.relative_to(tree).as_posix() for path in (tree / folder).rglob("*.png")}
        assert names == {
            f"{folder}/val/streets/streets_{index:06d}_000019_{ending}.png"
            for index in range(IMAGES)
            for ending in endings
        }
    endings = ["_instanceIds.png", "_labelIds.png"]
    images = cityscapes_images(tree, "val", endings)
    for image, scene in zip(images[: len(scenes)], scenes, strict=True):
        np.testing.assert_array_equal(read(image.image), scene.image)
        with Image.open(image.instance_ids) as file:
            assert file.mode == "I;16"
        np.testing.assert_array_equal(read(image.instance_ids), scene.instance_ids)
        np.testing.assert_array_equal(read(image.label_ids), scene.label_ids)
        trained = read(image.ground_truth_file("_labelTrainIds.png"))
        for k, label in enumerate(CITYSCAPES):
            np.testing.assert_array_equal(trained == k, scene.label_ids == label.id)
        assert set(np.unique(trained)) <= {*range(19), 255}
        color = read(image.ground_truth_file("_color.png"))
        assert color.shape == (*SMALL, 4)
        assert set(map(tuple, color[scene.label_ids == 26].tolist())) == {(0, 0, 142, 255)}


@pytest.fixture
def drawn(monkeypatch, scenes):
    """Replaces the drawing, which takes long; lists what is asked for."""
    calls = []

    def draw(seed, index, size):
        calls.append((seed, index, size))
        return scenes[index % len(scenes)]

    monkeypatch.setattr(street_files, "street_scene", draw)
    return calls


def test_only_missing_images_are_drawn(tree, tmp_path, drawn):
    folder = tmp_path / "data"
    shutil.copytree(tree, folder)
    lost = [
        "leftImg8bit/val/streets/streets_000001_000019_leftImg8bit.png",
        "gtFine/val/streets/streets_000002_000019_gtFine_labelIds.png",
    ]
    before = {name: (folder / name).read_bytes() for name in lost}
    for name in lost:
        (folder / name).unlink()
    progress = []
    assert write_streets(folder, IMAGES, SMALL, 0, progress=lambda *at: progress.append(at)) == 2
    assert drawn == [(0, 1, SMALL), (0, 2, SMALL)]
    assert progress == [(0, 2), (1, 2), (2, 2)]
    assert {name: (folder / name).read_bytes() for name in lost} == before
    assert write_streets(folder, IMAGES, SMALL, 0) == 0


def test_several_processes_draw_the_same(tree, tmp_path):
    progress = []
    assert (
        write_streets(tmp_path, 2, SMALL, 0, progress=lambda *at: progress.append(at), workers=2)
        == 2
    )
    assert progress == [(0, 2), (1, 2), (2, 2)]
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")]
    assert len(files) == 2 * 5
    for file in files:
        assert (tmp_path / file).read_bytes() == (tree / file).read_bytes()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are listed by Linux")
def test_processes_that_draw_end_with_a_killed_one(tmp_path):
    arguments = ["streets", tmp_path, "--images", "1000", "--size", "128x256", "--workers", "2"]
    with subprocess.Popen([sys.executable, "-c", COMMAND, *arguments]) as drawing:
        listed = Path(f"/proc/{drawing.pid}/task/{drawing.pid}/children")
        wait_until(lambda: any(tmp_path.rglob("*_color.png")))
        children = [Path(f"/proc/{pid}") for pid in listed.read_text().split()]
        drawing.kill()
    assert len(children) >= 2
    wait_until(lambda: not any(child.exists() for child in children))


def wait_until(happened):
    """Waits for a minute at most."""
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_interrupted_writing_goes_on(tmp_path, monkeypatch, drawn):
    write = street_files.save
    saved = []

    def fail(pixels, path):
        if len(saved) == 12:  # in the middle of the third image
            raise OSError(28, "No space left on device", str(path))
        saved.append(path)
        write(pixels, path)

    with monkeypatch.context() as patch:
        patch.setattr(street_files, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            write_streets(tmp_path, 4, SMALL, 5)
    assert write_streets(tmp_path, 4, SMALL, 5) == 2
    assert [index for _, index, _ in drawn] == [0, 1, 2, 2, 3]
    assert len(list(tmp_path.rglob("*.png"))) == 4 * 5
    assert not list(tmp_path.rglob("*.tmp"))


def test_more_images_later(tmp_path, drawn):
    assert write_streets(tmp_path, 1, SMALL, 0, "train") == 1
    assert write_streets(tmp_path, 2, SMALL, 0, "train") == 1
    assert write_streets(tmp_path, 1, SMALL, 1, "val") == 1
    assert drawn == [(0, 0, SMALL), (0, 1, SMALL), (1, 0, SMALL)]
    with pytest.raises(FileExistsError, match="1 train images beyond the first 1"):
        write_streets(tmp_path, 1, SMALL, 0, "train")


@pytest.mark.usefixtures("drawn")
def test_other_settings_are_refused(tmp_path):
    write_streets(tmp_path, 1, SMALL, 3)
    with pytest.raises(FileExistsError, match=r"other settings \(seed 3 there, 4 now\)"):
        write_streets(tmp_path, 1, SMALL, 4)
    with pytest.raises(FileExistsError, match=r"size \[128, 256\] there, \[256, 512\] now"):
        write_streets(tmp_path, 1, (256, 512), 3)
    with pytest.raises(FileExistsError, match="val images of seed 3, and train images"):
        write_streets(tmp_path, 1, SMALL, 3, "train")
    record = tmp_path / "streets.json"
    settings = json.loads(record.read_text())
    settings["splits"]["val"]["version"] = 0
    record.write_text(json.dumps(settings))
    with pytest.raises(FileExistsError, match="version 0 there, 1 now"):
        write_streets(tmp_path, 1, SMALL, 3)
    record.write_text("{}")
    with pytest.raises(ValueError, match=r"streets\.json can't be read"):
        write_streets(tmp_path, 1, SMALL, 3)


def test_folders_of_something_else_are_refused(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds files, but no streets\.json"):
        write_streets(tmp_path, 1, SMALL, 0)
    with pytest.raises(OSError, match=r"note\.txt"):
        write_streets(note, 1, SMALL, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "from 1 to 1000000; got 0"),
        ({"seed": -1}, "at least 0; got -1"),
        ({"split": "../val"}, "train, val or test; got '../val'"),
        ({"size": (64, 64)}, "got 64 x 64"),
    ],
)
def test_impossible_requests(tmp_path, change, message):
    request = {"images": 1, "size": SMALL, "seed": 0, "split": "val"} | change
    with pytest.raises(ValueError, match=message):
        write_streets(tmp_path / "new", **request)
    assert not (tmp_path / "new").exists()


def test_command(tmp_path, capsys, drawn):
    folder = str(tmp_path / "data")
    arguments = ["streets", folder, "--size", "128x256", "--seed", "7", "--split", "train"]
    assert main([*arguments, "--images", "1"]) == 0
    assert main([*arguments, "--images", "2"]) == 0
    assert drawn == [(7, 0, SMALL), (7, 1, SMALL)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        f"{folder}: 2 train images of 128 x 256, seed 7; 1 drawn now, 1 were there already"
    )
    assert main(["streets", folder, "--images", "2", "--seed", "8", "--split", "train"]) == 1
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["512", "512*1024", "x1024", "512x-1", "1e3x2e3", "64x64"])
def test_command_with_a_wrong_size(tmp_path, capsys, size):
    assert main(["streets", str(tmp_path / "new"), "--images", "1", "--size", size]) == 1
    error = capsys.readouterr().err
    assert error.startswith("m2f: ")
    assert ("such as 512x1024" in error) != (size == "64x64")
    assert not (tmp_path / "new").exists()


def test_coverage_is_exact():
    square = np.array([(1.25, 1.0), (3.5, 1.0), (3.5, 3.5), (1.25, 3.5)])
    want = np.outer([1, 1, 0.5], [0.75, 1, 0.5])
    for polygons, cover in (([square], want), ([square[::-1]], want), ([square] * 2, 2 * want)):
        patch = rasterise(polygons, (6, 6))
        assert patch.window == np.s_[1:4, 1:4]
        np.testing.assert_allclose(patch.alpha, cover.clip(0, 1))
    assert rasterise([square + 10], (6, 6)) is None
    turns = np.linspace(0, 2 * np.pi, 400)
    circle = np.stack([12 + 9.3 * np.cos(turns), 11 + 9.3 * np.sin(turns)], axis=1)
    assert rasterise([circle], (30, 30)).alpha.sum() == pytest.approx(np.pi * 9.3**2, rel=2e-3)
    left = rasterise([circle - (12, 0)], (30, 30))  # half of it is off the canvas
    assert left.alpha.sum() == pytest.approx(np.pi * 9.3**2 / 2, rel=2e-3)


def test_inside():
    square = np.array([(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)])
    assert inside(square, 1, 1)
    assert not inside(square, 3, 1)
    assert not inside(square, 1, -1)


def test_pixels_belong_to_what_covers_half_of_them():
    canvas = Canvas((4, 4))
    first, second, hidden = (canvas.new_object(26) for _ in range(3))
    grey = np.full(3, 0.5)
    square = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 2.0), (0.0, 2.0)])
    canvas.fill([square], grey, hidden)
    canvas.fill([square], grey, first)
    canvas.fill([square + np.array([0.2, 1.3])], grey, second)
    want = np.repeat([[26000], [26001], [26001], [0]], 4, axis=1)
    np.testing.assert_array_equal(canvas.instance_ids(fewest=4), want)
    want[0] = 26  # too little of it is seen
    want[1:3] = 26000
    np.testing.assert_array_equal(canvas.instance_ids(fewest=5), want)


def test_nearer_things_hide_farther_ones():
    ahead, farther = (-1.0, 1.0, 5.0, 8.0), (-1.0, 1.0, 9.0, 12.0)
    bus, parked = (2.0, 4.0, 5.0, 17.0), (5.0, 7.0, 6.0, 10.0)  # the bus is nearer to the middle
    left, outer_left = (-4.0, -2.0, 5.0, 9.0), (-7.0, -5.0, 5.0, 9.0)
    for front, back in ((ahead, farther), (bus, parked), (left, outer_left)):
        for pair, want in (((front, back), True), ((back, front), False)):
            assert nearer(np.array(pair))[0, 1] == want


def test_random_choices():
    rng = Random(1, 2, 3)
    assert [rng.whole(0, 9) for _ in range(8)] == [0, 2, 9, 8, 3, 1, 9, 5]
    assert rng.uniform(-1, 1) == 0.7479669581446224
    assert [rng.weighted({"a": 1, "b": 0, "c": 3}) for _ in range(6)] == [
        "c",
        "c",
        "a",
        "c",
        "c",
        "c",
    ]
    assert rng.octets(5).tolist() == [85, 133, 209, 29, 157]
    assert Random(1, 2).uniform(0, 1) != Random(1, 2, 0).uniform(0, 1)
    assert Random(1, 0).uniform(0, 1) != Random(1).uniform(0, 1)


def test_a_scene_is_a_value(scenes):
    with pytest.raises(AttributeError):
        scenes[0].image = scenes[1].image
    assert isinstance(scenes[0], StreetScene)
