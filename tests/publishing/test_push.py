"""Models on a hub that is a server on this machine: what is uploaded, and what is refused."""

import base64
import dataclasses
import functools
import http.server
import json
import re
import threading
import types
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from flax import nnx
from huggingface_hub import ModelCard
from m2f_jax.eval.results.evaluated import Evaluated
from m2f_jax.eval.results.published import Published
from m2f_jax.eval.running.model_digest import digest_of_segmenter

from m2f_jax import (
    ImageProcessor,
    Mask2Former,
    MaskFormer,
    MaskFormerConfig,
    MaskFormerDecoderConfig,
    MaskFormerPixelDecoderConfig,
    Segmenter,
    VideoMask2Former,
    VideoMask2FormerConfig,
    load,
)
from m2f_jax.cli import main
from m2f_jax.cli.training.settings import Settings
from m2f_jax.files import write_json
from m2f_jax.modeling.parameters import parameters
from m2f_jax.publishing import upload
from m2f_jax.publishing.card import rows_of
from m2f_jax.publishing.records import Measured, data_of, read_run
from m2f_jax.training.recipes import recipe
from tests.conftest import MICRO

REPOSITORY = "somebody/street-model"
PROCESSOR = ImageProcessor(shortest_edge=64, longest_edge=128, overlap_threshold=0.7)
OURS = ["config.json", "model.safetensors", "preprocessor_config.json"]
BOTH = sorted(["README.md", *OURS, *(f"transformers/{name}" for name in OURS)])


@pytest.fixture(scope="module")
def model():
    """A tiny model that transformers can express."""
    pixel_decoder = dataclasses.replace(MICRO.pixel_decoder, num_points=4)
    config = dataclasses.replace(MICRO, pixel_decoder=pixel_decoder)
    return Mask2Former(config, rngs=nnx.Rngs(0))


class Hub(http.server.ThreadingHTTPServer):
    """Repositories: whether they are private, and their files."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Requests)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.messages, self.cards, self.status = {}, [], [], 200


class Requests(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does, to what an upload asks for."""

    def log_message(self, *_):
        pass

    def answer(self, value, status=200, **headers):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def do_GET(self):
        [name] = re.findall(r"/api/models/([^/]+/[^/?]+)", self.path)
        repository = self.server.repositories.get(name)
        if repository is None:
            self.answer({"error": "not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in self.path:
            self.answer(
                [{"type": "file", "path": x, "size": 1, "oid": "0"} for x in repository["files"]]
            )
        else:
            siblings = [{"rfilename": x} for x in repository["files"]]
            self.answer({"id": name, "private": repository["private"], "siblings": siblings})

    def do_POST(self):
        body = self.body()
        if self.server.status != 200:
            self.answer({"error": "a reason"}, self.server.status)
        elif self.path == "/api/repos/create":
            assert self.headers["Authorization"] == "Bearer secret"
            said = json.loads(body)
            name = f"{said['organization']}/{said['name']}"
            private = said.get("private", False) or said.get("visibility") == "private"
            files = {".gitattributes": b""}
            self.server.repositories[name] = {"private": private, "files": files}
            self.answer({"url": f"{self.server.url}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [x["path"] for x in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self.answer({"files": [{"path": path, **modes} for path in files]})
        else:
            [name] = re.findall(r"/api/models/(.+)/commit/main", self.path)
            files = self.server.repositories[name]["files"]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
                else:
                    self.server.messages.append(value["summary"])
            url = f"{self.server.url}/{name}/commit/1"
            self.answer({"success": True, "commitOid": "1", "commitUrl": url})


@pytest.fixture
def hub(monkeypatch):
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = functools.partial(huggingface_hub.HfApi, endpoint=server.url)
        monkeypatch.setattr(upload, "HfApi", api)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield server
        server.shutdown()


def write_results(path, model, **changes):
    """A results.json of m2f eval; its changes are of settings, or of an `Evaluated`."""
    settings = {
        "model": "/home/ann/model",
        "model digest": digest_of_segmenter(Segmenter(model, PROCESSOR)),
        "dtype": "float32",
        "data": "/home/ann/streets, val",
    }
    values = {
        "task": "instance",
        "scores": {"AP": 12.345678, "AP50": float("nan")},
        "published": Published(),
        "images": 7,
        "settings": settings | changes.pop("settings", {}),
        "result": types.SimpleNamespace(to_json=dict),
    }
    Evaluated(**values | changes).save(path)
    return path


def write_recipe(
    path, start="facebook/mask2former-swin-tiny-coco-instance", name="swin-tiny-coco-instance"
):
    settings = Settings(
        recipe=name,
        data="/home/ann/streets",
        from_=start,
        seed=3,
        settings=recipe("swin-tiny-coco-instance"),
    )
    write_json(path, settings.to_dict())
    return path


def assert_same(model, other):
    ours, theirs = parameters(model), parameters(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value[...], theirs[name][...], err_msg=name)


def names(folder):
    return sorted(str(x.relative_to(folder)) for x in Path(folder).rglob("*") if x.is_file())


def test_a_folder_with_everything(model, tmp_path):
    folder = model.push_to_hub(
        REPOSITORY,
        processor=PROCESSOR,
        results=[write_results(tmp_path / "results.json", model)],
        recipe=write_recipe(tmp_path / "train.json"),
        license="cc-by-nc-4.0",
        datasets=["somebody/streets"],
        dry_run=tmp_path / "out",
    )
    assert names(folder) == sorted([*BOTH, "train.json"])
    opened = load(folder)
    assert_same(opened.model, model)
    assert (opened.config, opened.processor) == (model.config, PROCESSOR)
    assert_same(load(tmp_path / "out" / "transformers").model, model)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    data = card.data
    assert (data.library_name, data.pipeline_tag) == ("m2f-jax", "image-segmentation")
    assert (data.license, data.datasets) == ("cc-by-nc-4.0", ["somebody/streets"])
    assert data.base_model == "facebook/mask2former-swin-tiny-coco-instance"
    assert {"jax", "mask2former", "instance-segmentation", "swin"} <= set(data.tags)
    [result] = data.eval_results  # and none of what isn't a number
    assert (result.metric_name, result.metric_value) == ("AP", 12.35)
    assert (result.dataset_name, result.dataset_split) == ("streets", "val")
    assert result.dataset_args == {"images": 7}
    text = card.text
    assert "| `streets, val` | 7 | instance | AP | 12.3 | float32 |\n" in text
    assert f'm2f_jax.load("{REPOSITORY}")' in text
    assert f'from_pretrained("{REPOSITORY}", subfolder="transformers")' in text
    assert "368750 steps of 16 images in crops of 1024 x 1024, learning rate 0.0001" in text
    assert "weights of its authors under CC BY-NC 4.0" in text
    assert "`class 0`, `class 1`" in text
    assert "shorter side of 64 pixels, at most 128 on" in text
    kept = json.loads((tmp_path / "out" / "train.json").read_text())
    assert kept["settings"] == json.loads((tmp_path / "train.json").read_text())["settings"]
    assert not [x for x in (text, str(kept)) if "/home" in x or "ann" in x.split()]


@pytest.mark.parametrize(
    ("form", "files"),
    [("m2f_jax", sorted(["README.md", *OURS])), ("huggingface", sorted(["README.md", *OURS]))],
)
def test_one_format(model, tmp_path, form, files):
    folder = model.push_to_hub(REPOSITORY, format=form, dry_run=tmp_path / "out")
    assert names(folder) == files
    assert_same(load(folder).model, model)
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("m2f_jax.load" in card) == (form == "m2f_jax")
    assert ("transformers" in card) == (form == "huggingface")
    assert "subfolder" not in card
    assert "None is stated" in card
    assert "not at all" in card


def test_what_transformers_cannot_express(micro, tmp_path):
    with pytest.raises(ValueError, match=r"has 2 and 2 heads and 1 points; publish it in the form"):
        micro.push_to_hub(REPOSITORY, dry_run=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = micro.push_to_hub(REPOSITORY, format="m2f_jax", dry_run=tmp_path / "out")
    assert_same(load(folder).model, micro)


def test_the_card_of_a_video_model(tmp_path):
    parts = {name: getattr(MICRO, name) for name in ("labels", "backbone", "pixel_decoder")}
    config = VideoMask2FormerConfig(**parts, decoder=MICRO.decoder)
    model = VideoMask2Former(config, rngs=nnx.Rngs(0))
    folder = model.push_to_hub(REPOSITORY, format="m2f_jax", dry_run=tmp_path / "out")
    assert_same(VideoMask2Former.from_pretrained(folder), model)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert "video_mask2former" in card.data.tags
    assert "\nVideoMask2Former for instance segmentation: " in card.text
    line = f'\nopened = m2f_jax.load("{REPOSITORY}")\nsegmenter = m2f_jax.VideoSegmenter('
    assert line in card.text


@pytest.mark.torch
@pytest.mark.parametrize("kind", [Mask2Former, MaskFormer])
def test_transformers_loads_its_half(model, tmp_path, kind):
    import transformers

    if kind is MaskFormer:
        pixel_decoder = MaskFormerPixelDecoderConfig(dim=64, fpn_dim=64, mask_dim=8)
        decoder = MaskFormerDecoderConfig(
            dim=64, num_layers=1, num_heads=2, ffn_dim=8, num_queries=5
        )
        parts = {"backbone": MICRO.backbone, "pixel_decoder": pixel_decoder, "decoder": decoder}
        config = MaskFormerConfig(labels=MICRO.labels, task="semantic", **parts)
        model = MaskFormer(config, rngs=nnx.Rngs(0))
    folder = model.push_to_hub(REPOSITORY, processor=PROCESSOR, dry_run=tmp_path / "out")
    place = {"pretrained_model_name_or_path": folder, "subfolder": "transformers"}
    card = Path(folder, "README.md").read_text()
    [name] = re.findall(r"^from transformers import AutoImageProcessor, (\w+)$", card, re.MULTILINE)
    theirs, info = getattr(transformers, name).from_pretrained(**place, output_loading_info=True)
    lacking = [str(name) for key in ("missing_keys", "mismatched_keys") for name in info[key]]
    assert all(name.endswith(".relative_position_index") for name in lacking)  # no parameter
    assert theirs.config.id2label == {0: "class 0", 1: "class 1"}
    assert transformers.AutoImageProcessor.from_pretrained(**place).size["shortest_edge"] == 64


def test_an_upload_makes_a_repository(hub, model, tmp_path):
    url = model.push_to_hub(REPOSITORY, processor=PROCESSOR, private=True)
    assert url == f"{hub.url}/{REPOSITORY}/commit/1"
    repository = hub.repositories[REPOSITORY]
    assert repository["private"]
    assert sorted(repository["files"]) == [".gitattributes", *BOTH]
    for name, content in repository["files"].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert_same(load(tmp_path).model, model)
    [card] = hub.cards
    assert card == repository["files"]["README.md"].decode()


def test_nothing_is_replaced_without_a_word(hub, model):
    theirs = "transformers/model.safetensors"
    old = dict.fromkeys(["config.json", "pytorch_model.bin", theirs, "notes.txt"], b"old")
    files = dict(old)
    hub.repositories[REPOSITORY] = {"private": False, "files": files}
    with pytest.raises(FileExistsError, match=r"street-model holds config.json, pytorch_model.bin"):
        model.push_to_hub(REPOSITORY)
    with pytest.raises(ValueError, match="is there already and public"):
        model.push_to_hub(REPOSITORY, private=True, overwrite=True)
    assert files == old
    model.push_to_hub(REPOSITORY, format="m2f_jax", overwrite=True)
    assert sorted(files) == sorted(["README.md", *OURS, "notes.txt"])
    assert files["notes.txt"] == b"old" != files["config.json"]


def test_a_repository_without_a_model_takes_one(hub, model):
    hub.repositories[REPOSITORY] = {"private": True, "files": {".gitattributes": b""}}
    model.push_to_hub(REPOSITORY, format="m2f_jax")
    assert "config.json" in hub.repositories[REPOSITORY]["files"]


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, PermissionError, "the hub doesn't know you: log in"),
        (403, PermissionError, f"you may not write to {REPOSITORY}"),
        (400, ConnectionError, rf"the hub refuses {REPOSITORY} \(400: a reason\)"),
    ],
)
def test_refusals_of_the_hub(hub, model, status, kind, message):
    hub.status = status
    with pytest.raises(kind, match=message) as caught:
        model.push_to_hub(REPOSITORY, format="m2f_jax")
    assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach(hub, model):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ConnectionError, match=f"^{REPOSITORY} couldn't be uploaded to the hub"):
        model.push_to_hub(REPOSITORY, format="m2f_jax")


def test_a_hub_that_is_switched_off(model, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()  # which knows the setting from before
    try:
        with pytest.raises(ConnectionError, match=r"switched off \(HF_HUB_OFFLINE\); unset it"):
            model.push_to_hub(REPOSITORY, format="m2f_jax")
    finally:
        huggingface_hub.close_session()


@pytest.mark.parametrize("name", ["street-model", "a/b/c", "a/two words", "", "somebody/.."])
def test_what_is_no_repository(model, tmp_path, name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        model.push_to_hub(name, dry_run=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="out isn't empty"):
        model.push_to_hub(REPOSITORY, dry_run=tmp_path / "out")
    assert names(tmp_path / "out") == ["notes.txt"]


def test_scores_of_another_model(model, tmp_path):
    path = write_results(tmp_path / "results.json", model)
    other = dataclasses.replace(PROCESSOR, shortest_edge=32)
    with pytest.raises(ValueError, match=r"AP 12\.3 on streets are the scores of other weights"):
        model.push_to_hub(REPOSITORY, processor=other, results=[path], dry_run=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"predictions": "x"}}, "has scores of predictions in files, not of a model"),
        ({"settings": {"model digest": None}}, "is no results.json .*: it doesn't tell digest"),
        ({"settings": {"dtype": 3}}, "dtype has the value 3; expected str"),
        ({"scores": {"AP": float("nan")}}, "holds no score that is a number"),
    ],
)
def test_results_that_are_something_else(model, tmp_path, change, message):
    path = write_results(tmp_path / "results.json", model, **change)
    with pytest.raises(ValueError, match=f"results.json:? {message}"):
        model.push_to_hub(REPOSITORY, results=[path], dry_run=tmp_path / "out")


def test_folders_of_a_recipe_are_not_told(tmp_path):
    run = read_run(write_recipe(tmp_path / "train.json", "/home/ann/start", "/home/ann/mine.json"))
    assert (run.recipe, run.start, run.data) == ("mine.json", "start", "streets")
    assert "/home/ann" not in json.dumps(run.values)


def test_fine_tuning_without_a_recipe(model, tmp_path):
    path = write_recipe(tmp_path / "train.json", name=None)
    folder = model.push_to_hub(REPOSITORY, recipe=path, dry_run=tmp_path / "out")
    card = Path(folder, "README.md").read_text()
    assert "By `m2f train` and its settings to fine-tune on `streets`, from `facebook/" in card


@pytest.mark.parametrize("content", ["[]", "{}", '{"recipe": "x", "data": "y", "seed": 0}'])
def test_recipes_that_are_something_else(model, tmp_path, content):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(ValueError, match=r"is no train.json of m2f train: it doesn't tell "):
        model.push_to_hub(REPOSITORY, recipe=tmp_path / "train.json", dry_run=tmp_path / "out")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("/home/ann/coco/annotations/instances_val2017.json", "`instances_val2017`"),
        ("/home/ann/streets.v2/val", "`streets.v2, val`"),
        ("/home/ann, bob/ADE, val (annotations)", "`ADE, val (annotations)`"),
        ("/", "`data`"),
    ],
)
def test_folders_are_not_told(title, name):
    measured = Measured(
        **dict.fromkeys(("dtype", "digest"), "x"),
        **dict(zip(("data", "split"), data_of(title, None), strict=True)),
        task="instance",
        images=1,
        scores={"AP": 1.0},
    )
    assert [row["data"] for row in rows_of(measured)] == [name]


def test_results_beside_published_scores_name_the_data_set(model, tmp_path):
    published = Published(model="swin-tiny-coco-instance", scores={"AP": 45.0})
    path = write_results(tmp_path / "results.json", model, published=published)
    folder = model.push_to_hub(
        REPOSITORY, processor=PROCESSOR, results=[path], format="m2f_jax", dry_run=tmp_path / "out"
    )
    assert "| `COCO, val` | 7 |" in Path(folder, "README.md").read_text()


def test_the_command(model, tmp_path, capsys, hub):
    folder = tmp_path / "run" / "model"
    PROCESSOR.save_pretrained(folder)
    model.save_pretrained(folder)
    write_recipe(tmp_path / "run" / "train.json", start="C:\\Users\\ann\\start.pkl")
    results = str(write_results(tmp_path / "results.json", model))
    arguments = ["push", str(folder), REPOSITORY, "--results", results, "--format", "m2f_jax"]
    assert main([*arguments, "--dry-run", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{REPOSITORY} would be uploaded: {tmp_path / 'out'}\n"
    assert f"the recipe is that of {tmp_path / 'run' / 'train.json'}\n" in err
    assert "states no licence; name one with --license" in err
    card = (tmp_path / "out" / "README.md").read_text()
    assert "from `start.pkl`: 368750 steps" in card
    assert not hub.repositories
    assert main([*arguments, "--license", "apache-2.0"]) == 0
    assert (
        capsys.readouterr().out == f"{REPOSITORY} is on the hub: {hub.url}/{REPOSITORY}/commit/1\n"
    )
    assert "license: apache-2.0\n" in hub.cards[0]
    assert main(arguments) == 1
    assert "holds README.md, config.json" in capsys.readouterr().err
