import json
import math
import re

import pytest
from m2f_jax.eval.results.headline import MAIN_SCORES

from m2f_jax.config import (
    Mask2FormerConfig,
    MaskFormerConfig,
    ModelConfig,
    ResNetConfig,
    SwinConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import YOUTUBEVIS_2019, YOUTUBEVIS_2021, numbered, published_labels
from m2f_jax.modeling.parameters import trained_shapes
from m2f_jax.presets import DATA_SETS, PRESETS, name_of, nearest_preset, preset

RESNETS = ("resnet50", "resnet101")
ALL_SWINS = ("swin-tiny", "swin-small", "swin-base", "swin-base-IN21k", "swin-large")
ALL = (*RESNETS, *ALL_SWINS)
NO_PLAIN_BASE = tuple(name for name in ALL if name != "swin-base")
LARGEST = ("resnet50", "swin-large")
PUBLISHED = {  # data set and task: classes, backbones
    "cityscapes-instance": (8, NO_PLAIN_BASE),
    "cityscapes-panoptic": (19, NO_PLAIN_BASE),
    "cityscapes-semantic": (19, NO_PLAIN_BASE),
    "coco-instance": (80, ALL),
    "coco-panoptic": (133, ALL),
    "ade-instance": (100, LARGEST),
    "ade-panoptic": (150, LARGEST),
    "ade-semantic": (150, ALL),
    "mapillary-vistas-panoptic": (65, LARGEST),
    "mapillary-vistas-semantic": (65, LARGEST),
    "youtubevis-2019-instance": (40, NO_PLAIN_BASE),
    "youtubevis-2021-instance": (40, NO_PLAIN_BASE),
}
OF_VIDEOS = {
    "youtubevis-2019-instance": YOUTUBEVIS_2019,
    "youtubevis-2021-instance": YOUTUBEVIS_2021,
}
PLAIN_SWINS = ("swin-tiny", "swin-small", "swin-base", "swin-large")
THREE_RESNETS = (*RESNETS, "resnet101c")
PUBLISHED_MASKFORMERS = {  # the ends of names: task, classes, backbones
    "ade": ("semantic", 150, (*THREE_RESNETS, *PLAIN_SWINS)),
    "ade-panoptic": ("panoptic", 150, RESNETS),
    "ade20k-full": ("semantic", 847, THREE_RESNETS),
    "cityscapes": ("semantic", 19, ("resnet101", "resnet101c")),
    "coco": ("panoptic", 133, (*RESNETS, *PLAIN_SWINS)),
    "coco-stuff": ("semantic", 171, THREE_RESNETS),
    "vistas": ("semantic", 65, ("resnet50",)),
}
MASK2FORMERS = [name for name, x in PRESETS.items() if x.architecture != "maskformer"]
MASKFORMERS = [name for name, x in PRESETS.items() if x.architecture == "maskformer"]


def test_every_published_model_is_there():
    names = {
        f"{backbone}-{data}" for data, (_, backbones) in PUBLISHED.items() for backbone in backbones
    }
    assert set(MASK2FORMERS) == names
    assert len(names) == 59
    assert set(MASKFORMERS) == {
        f"maskformer-{backbone}-{data}"
        for data, (_, _, backbones) in PUBLISHED_MASKFORMERS.items()
        for backbone in backbones
    }
    assert len(MASKFORMERS) == 24


@pytest.mark.parametrize("name", MASKFORMERS)
def test_config_fits_the_name_of_a_maskformer(name):
    config = PRESETS[name].config
    kinds = "|".join((*THREE_RESNETS, *PLAIN_SWINS))
    kind, data = re.fullmatch(rf"maskformer-({kinds})-(.+)", name).groups()
    task, classes, _ = PUBLISHED_MASKFORMERS[data]
    assert isinstance(config, MaskFormerConfig)
    assert (config.task, config.num_classes) == (task, classes)
    assert config.labels == published_labels(classes)
    assert config.decoder.num_queries == 100
    resnet = kind in THREE_RESNETS
    assert config.pixel_decoder.encoder_layers == (6 if resnet and task == "panoptic" else 0)
    if resnet:
        assert config.backbone.depths[2] == (6 if kind == "resnet50" else 23)
        assert config.backbone.deeplab == (kind == "resnet101c")
    else:
        assert config.backbone == PRESETS[f"{kind}-coco-panoptic"].config.backbone


def test_how_maskformers_are_tested():
    processors = {x: ImageProcessor.for_model(PRESETS[x].config) for x in MASKFORMERS}
    for name, processor in processors.items():
        is_coco = name.endswith("-coco")
        assert processor.size_divisor == (1 if is_coco else 32)
        assert processor.object_mask_threshold == (
            0.7 if "-ade" in name and "full" not in name else 0.8
        )
        assert not processor.segments_inside_masks
        assert processor.resize_scores == (PRESETS[name].config.task == "semantic")
    assert ImageProcessor.for_model(PRESETS["resnet50-coco-panoptic"].config) == ImageProcessor(
        shortest_edge=800,
        longest_edge=1333,
        thing_classes=tuple(range(80)),
        object_mask_threshold=0.8,
        overlap_threshold=0.8,
    )


@pytest.mark.parametrize("name", MASK2FORMERS)
def test_config_fits_the_name(name):
    config = PRESETS[name].config
    kinds = r"resnet50|resnet101|swin-(?:tiny|small|base(?:-IN21k)?|large)"
    kind, data = re.fullmatch(rf"({kinds})-(.+)", name).groups()
    assert config.task == data.rpartition("-")[2]
    assert config.num_classes == PUBLISHED[data][0]
    assert config.labels == OF_VIDEOS.get(data, published_labels(config.num_classes))
    assert isinstance(config, VideoMask2FormerConfig if data in OF_VIDEOS else Mask2FormerConfig)
    many = kind == "swin-large" and config.task != "semantic"
    assert config.decoder.num_queries == (200 if many else 100)
    if kind in RESNETS:
        assert config.backbone == ResNetConfig(depths=(3, 4, 6 if kind == "resnet50" else 23, 3))
        return
    backbone = kind.removeprefix("swin-")
    assert (
        config.backbone.embed_dim
        == ({"tiny": 96, "small": 96, "base": 128, "base-IN21k": 128, "large": 192}[backbone])
    )
    assert config.backbone.depths == (2, 2, 6 if backbone == "tiny" else 18, 2)
    assert {
        dim // n for dim, n in zip(config.backbone.channels, config.backbone.num_heads, strict=True)
    } == {32}
    assert config.backbone.window_size == (7 if backbone in ("tiny", "small") else 12)


@pytest.mark.parametrize("name", PRESETS)
def test_config_survives_json(name):
    config = PRESETS[name].config
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", PRESETS)
def test_size_and_scores(name):
    published = PRESETS[name]
    config = published.config
    nearest = nearest_preset(config)
    assert published.shortest_edge <= published.longest_edge
    assert nearest is not None
    assert nearest.shortest_edge == published.shortest_edge
    assert nearest.longest_edge == published.longest_edge
    assert nearest.object_mask_threshold == published.object_mask_threshold
    assert MAIN_SCORES[config.task] in published.scores
    assert set(published.scores) <= {"PQ", "AP", "AP50", "mIoU"}
    assert all(15 < score < 100 for score in published.scores.values())


def test_spot_checks_of_scores():
    assert PRESETS["swin-large-cityscapes-instance"].scores == {"AP": 43.7, "AP50": 71.4}
    assert PRESETS["swin-base-IN21k-coco-panoptic"].scores == {"PQ": 56.4, "AP": 46.3, "mIoU": 67.1}
    assert PRESETS["swin-tiny-ade-semantic"].scores == {"mIoU": 47.7}


@pytest.mark.parametrize(
    ("num_classes", "embed_dim", "size"),
    [
        (8, 192, (1024, 2048)),
        (133, 128, (800, 1333)),
        (150, 96, (512, 2048)),
        (150, 128, (640, 2560)),
        (150, 192, (640, 2560)),
        (65, 192, (2048, 2048)),
        (65, 96, (2048, 2048)),  # no such model is published: the data set decides
        (150, 16, (512, 2048)),
    ],
)
def test_nearest_preset(num_classes, embed_dim, size):
    nearest = nearest_preset(config_of(published_labels(num_classes), embed_dim))
    assert nearest is not None
    assert (nearest.shortest_edge, nearest.longest_edge) == size


def test_nearest_preset_is_of_the_same_kind():
    for name, published in PRESETS.items():
        assert nearest_preset(published.config).architecture == published.architecture, name


def config_of(labels, embed_dim):
    backbone = SwinConfig(embed_dim=embed_dim, num_heads=(1, 2, 4, 8))
    return Mask2FormerConfig(labels=labels, task="panoptic", backbone=backbone)


def test_no_preset_for_other_classes():
    assert nearest_preset(config_of(numbered(7), 96)) is None
    assert nearest_preset(config_of(numbered(8), 96)) is None


def test_only_mapillary_keeps_queries_of_any_score():
    thresholds = {name: p.object_mask_threshold for name, p in PRESETS.items()}
    assert {name for name, x in thresholds.items() if x == 0} == {
        f"{backbone}-mapillary-vistas-{task}"
        for backbone in LARGEST
        for task in ("panoptic", "semantic")
    }


def test_videos():
    """Test sizes and spot checks of scores; and both years have other classes of each number."""
    videos = {name: x for name, x in PRESETS.items() if "-youtubevis-" in name}
    smaller = {name for name, x in videos.items() if x.shortest_edge == 360}
    assert {x.shortest_edge for x in videos.values()} == {360, 480}
    assert smaller == {
        *(name for name in videos if name.startswith("resnet")),
        "swin-large-youtubevis-2021-instance",
    }
    assert PRESETS["resnet50-youtubevis-2019-instance"].scores == {"AP": 46.4}
    assert PRESETS["swin-large-youtubevis-2021-instance"].scores == {"AP": 52.6}
    years = list(OF_VIDEOS.values())
    assert [len({label.name for label in labels}) for labels in years] == [40, 40]
    assert [[label.id for label in labels] for labels in years] == [list(range(1, 41))] * 2
    names = [[label.name for label in labels] for labels in years]
    assert set(names[0]) - set(names[1]) == {"ape", "owl", "sedan", "hand", "eagle"}
    assert not any(a == b for a, b in zip(*names, strict=True))
    assert [x.index("giant_panda") for x in names] == [1, 16]


def test_preset_by_either_name():
    name = "swin-large-cityscapes-instance"
    assert preset(name) is preset(f"facebook/mask2former-{name}") is PRESETS[name]
    name = "maskformer-swin-tiny-ade"
    assert preset(name) is preset(f"facebook/{name}") is PRESETS[name]


def test_unknown_name_shows_what_comes_close():
    with pytest.raises(
        ValueError, match=r"'swin-large-cityscape-instance'.*mean swin-large-cityscapes"
    ):
        preset("swin-large-cityscape-instance")
    with pytest.raises(ValueError, match=r"known: resnet50-cityscapes-instance, .*"):
        preset("?")


@pytest.mark.parametrize(
    ("name", "backbone", "pixel_decoder", "decoder"),
    [
        ("resnet50-coco-instance", 23_454_912, 6_035_904, 14_479_441),
        ("resnet101-coco-instance", 42_394_816, 6_035_904, 14_479_441),
        ("swin-large-youtubevis-2019-instance", 195_201_204, 5_790_144, 14_520_361),
    ],
)
def test_numbers_of_trained_parameters_are_the_authors(name, backbone, pixel_decoder, decoder):
    counts = dict.fromkeys(("backbone", "pixel_decoder", "decoder"), 0)
    for parameter, shape in trained_shapes(PRESETS[name].config).items():
        counts[parameter.partition(".")[0]] += math.prod(shape)
    assert tuple(counts.values()) == (backbone, pixel_decoder, decoder)
    assert PRESETS[name].parameters == sum(counts.values())


@pytest.mark.parametrize(
    ("name", "total", "backbone", "pixel_decoder", "predictor"),
    [
        ("maskformer-resnet50-ade", 41_254_743, 23_454_912, 7_540_480, 10_259_351),
        ("maskformer-resnet50-coco", 45_012_038, 23_454_912, 11_826_688, 9_730_438),
        ("maskformer-resnet101c-cityscapes", 60_284_372, 42_518_208, 7_540_480, 10_225_684),
        ("maskformer-swin-base-ade", 101_829_391, 86_880_376, 4_951_808, 9_997_207),
        ("maskformer-swin-large-coco", 211_571_258, 195_201_204, 6_246_144, 10_123_910),
    ],
)
def test_numbers_of_a_maskformers_parameters(name, total, backbone, pixel_decoder, predictor):
    config = PRESETS[name].config
    counts = dict.fromkeys(("backbone", "pixel_decoder", "decoder"), 0)
    projection = 0  # without encoder layers, the authors count it to the predictor
    for parameter, shape in trained_shapes(config).items():
        counts[parameter.partition(".")[0]] += math.prod(shape)
        if "input_projection" in parameter and not config.pixel_decoder.encoder_layers:
            projection += math.prod(shape)
    ours = tuple(counts.values())
    assert ours == (backbone, pixel_decoder + projection, predictor - projection)
    assert PRESETS[name].parameters == sum(ours) == total


@pytest.mark.parametrize(  # of each backbone, and of most numbers of classes and queries
    "name",
    [
        "swin-tiny-cityscapes-instance",
        "swin-small-cityscapes-panoptic",
        "swin-base-ade-semantic",
        "maskformer-resnet101-ade-panoptic",
        "maskformer-swin-tiny-coco",
        "maskformer-swin-small-ade",
    ],
)
def test_numbers_of_parameters_are_those_of_the_model(name):
    shapes = trained_shapes(PRESETS[name].config).values()
    assert PRESETS[name].parameters == sum(map(math.prod, shapes))


def test_names_and_where_the_weights_are():
    for name, published in PRESETS.items():
        if published.architecture == "mask2former":
            assert name.endswith(f"-{published.data_set}-{published.config.task}")
        assert published.data_set in DATA_SETS
        assert name_of(published.file) == name_of(f"some/{name}.pth") == name
        if published.hub is not None:
            assert name_of(published.hub) == name
    assert len({published.file for published in PRESETS.values()}) == len(PRESETS)
    absent = {name for name, published in PRESETS.items() if published.hub is None}
    assert absent == {
        *(name for name in PRESETS if name.startswith("resnet") or "resnet101c" in name),
        *(f"maskformer-{x}-{y}" for x in RESNETS for y in ("coco", "ade-panoptic", "coco-stuff")),
        "maskformer-resnet101-ade20k-full",
        *(name for name in PRESETS if "-youtubevis-" in name),
        "swin-large-ade-instance",
        "swin-base-IN21k-cityscapes-instance",
    }


@pytest.mark.parametrize("source", ["model_final.pkl", "", "swin-tiny", "x/model_final_123456.pkl"])
def test_other_names_tell_nothing(source):
    assert name_of(source) is None
