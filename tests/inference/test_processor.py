"""Images of every kind to the model's input, and predictions to segmentations of any size."""

import dataclasses
import inspect
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from m2f_jax.images import read_image
from m2f_jax.inference.preprocess import padded_size, resized_size
from m2f_jax.inference.processor import FOR_DISPLAY, ImageProcessor
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.labels import things
from m2f_jax.presets import preset
from m2f_jax.structures import ImageSize, Predictions

# --- Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "edges", "want"),
    [
        ((427, 640), (800, 1333), (800, 1199)),
        ((640, 427), (800, 1333), (1199, 800)),
        ((480, 640), (800, 1333), (800, 1067)),
        ((1024, 2048), (1024, 2048), (1024, 2048)),
        ((1000, 1000), (800, 1333), (800, 800)),
        ((300, 640), (800, 1333), (625, 1333)),  # the longest edge binds
        ((100, 5000), (800, 1333), (27, 1333)),
        ((317, 634), (800, 1333), (667, 1333)),  # 666.5, but for rounding errors
        ((319, 638), (800, 1333), (666, 1333)),
        ((1, 4000), (800, 1333), (1, 1333)),  # never nothing
        ((427, 640), (None, None), (427, 640)),
        ((427, 640), (None, 320), (214, 320)),
        ((427, 640), (None, 700), (427, 640)),
        ((427, 640), (100, None), (100, 150)),
    ],
)
def test_resized_size(size, edges, want):
    assert resized_size(size, *edges) == want


def test_resized_size_is_detectron2s():
    def theirs(height, width, short, long):
        """ResizeShortestEdge.get_output_shape."""
        scale = short / min(height, width)
        new = (short, scale * width) if height < width else (scale * height, short)
        if max(new) > long:
            scale = long / max(new)
            new = (new[0] * scale, new[1] * scale)
        return int(new[0] + 0.5), int(new[1] + 0.5)

    for short, long in [(800, 1333), (640, 2560)]:
        for height in range(64, 1200, 13):
            for width in (*range(64, 1200, 17), height, 2 * height):
                ours = resized_size((height, width), short, long)
                assert ours == theirs(height, width, short, long), (height, width)


@pytest.mark.parametrize(
    ("size", "want"), [((800, 1199), (800, 1216)), ((1, 32), (32, 32)), ((64, 65), (64, 96))]
)
def test_padded_size(size, want):
    assert padded_size(size, 32) == want


# --- Images in -----------------------------------------------------------------------------------

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[..., 0]


def test_path_image_and_array_are_the_same(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(RGB).save(path)
    for source in (path, str(path), Image.fromarray(RGB), RGB, RGB[::-1].copy()[::-1]):
        np.testing.assert_array_equal(read_image(source), RGB, strict=True)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(image), RGB, strict=True)


def with_alpha(pixels):
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray(255 - GREY))
    return image


def with_palette(**info):
    image = Image.new("P", (7, 5))
    image.putdata((GREY % 2).ravel().tolist())
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.info.update(info)
    return image


THREE_GREYS = np.stack([GREY] * 3, axis=-1)
FROM_PALETTE = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)[GREY % 2]
MODES = {
    "L": (Image.fromarray(GREY), THREE_GREYS),
    "LA": (with_alpha(GREY), THREE_GREYS),
    "RGBA": (with_alpha(RGB), RGB),
    "P": (with_palette(), FROM_PALETTE),
    "P, one color transparent": (with_palette(transparency=0), FROM_PALETTE),
    "P, an alpha per color": (with_palette(transparency=b"\x00\x80"), FROM_PALETTE),
    "CMYK": (
        Image.new("CMYK", (7, 5), (255, 0, 0, 51)),
        np.full((5, 7, 3), [0, 204, 204], np.uint8),
    ),
    "1": (Image.fromarray(GREY > 99), np.where(THREE_GREYS > 99, 255, 0).astype(np.uint8)),
    "I;16": (Image.fromarray(GREY.astype(np.uint16) * 256 + 255), THREE_GREYS),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode, tmp_path):
    image, want = MODES[mode]
    assert image.mode == mode.partition(",")[0]
    np.testing.assert_array_equal(read_image(image), want, strict=True)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    np.testing.assert_array_equal(read_image(path), want, strict=True)


def test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees, clockwise
    Image.fromarray(RGB).save(tmp_path / "image.png", exif=exif)
    upright = np.rot90(RGB, k=-1)
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), upright)
    _, size = ImageProcessor().prepare(tmp_path / "image.png")
    assert size.original == (7, 5)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_images_of_unknown_range_are_refused(dtype, tmp_path):
    image = Image.fromarray(GREY.astype(dtype))
    with pytest.raises(ValueError, match=r"32-bit numbers \(mode [IF]\).*convert it"):
        read_image(image)
    image.save(tmp_path / "depth.tif")
    with pytest.raises(ValueError, match=r"depth\.tif holds 32-bit numbers"):
        read_image(tmp_path / "depth.tif")


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("a.png", lambda data: data[:-30], r"a\.png can't be read as an image"),
        ("a.jpg", lambda data: data[: len(data) // 2], r"a\.jpg can't be read as an image"),
        ("a.png", lambda data: data[:20], r"a\.png can't be read as an image"),
        ("a.png", lambda _: b"not an image\n", r"a\.png can't be read as an image"),
        ("a.mp4", lambda _: b"not an image\n", r"a\.mp4 can't .*video: m2f predict --video"),
        ("a.png", lambda _: b"", r"a\.png can't be read as an image"),
    ],
)
def test_damaged_files_are_refused_by_name(name, damage, message, tmp_path):
    path = tmp_path / name
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(path, "JPEG" if name == "a.jpg" else "PNG")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_image(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png is missing"):
        read_image(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB.astype(np.float32) / 255, "uint8 .* not float32"),
        (RGB > 9, "uint8 .* not bool"),
        (RGB.transpose(2, 0, 1), r"not \[3, 5, 7\]; .*channels-first.*transpose\(1, 2, 0\)"),
        (GREY, r"not \[5, 7\]$"),
        (np.zeros((5, 7, 4), np.uint8), r"not \[5, 7, 4\]$"),
        (RGB[None], r"not \[1, 5, 7, 3\]$"),
        (RGB[:0], "at least one pixel"),
    ],
)
def test_other_arrays_are_refused(array, message):
    # As where no types are checked: the annotations alone would refuse these too.
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(read_image)(array)


def test_images_without_pixels_are_refused():
    with pytest.raises(ValueError, match=r"no pixels \(0 x 5\)"):
        read_image(Image.new("RGB", (0, 5)))


def test_native_size_is_padded_with_the_mean():
    batch = ImageProcessor()(RGB)
    assert batch.pixel_values.shape == (1, 32, 32, 3)
    assert batch.pixel_values.dtype == np.float32
    assert batch.sizes == (ImageSize((32, 32), (5, 7), (5, 7)),)
    assert (batch.pixel_values[0, 5:] == 0).all()
    assert (batch.pixel_values[0, :, 7:] == 0).all()
    want = (RGB - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
    np.testing.assert_allclose(batch.pixel_values[0, :5, :7], want, rtol=0, atol=1e-6)


def test_images_are_resized_as_pil_does():
    processor = ImageProcessor(shortest_edge=10, longest_edge=12, mean=(0.0,) * 3, std=(1.0,) * 3)
    batch = processor(RGB)
    assert batch.sizes == (ImageSize((32, 32), (9, 12), (5, 7)),)
    want = Image.fromarray(RGB).resize((12, 9), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(batch.pixel_values[0, :9, :12], want)


def test_a_batch_is_padded_to_its_largest_sides():
    wide, tall = np.full((40, 70, 3), 9, np.uint8), np.full((90, 33, 3), 200, np.uint8)
    processor = ImageProcessor()
    batch = processor([wide, Image.fromarray(tall)])
    assert batch.pixel_values.shape == (2, 96, 96, 3)
    assert batch.sizes == (
        ImageSize((96, 96), (40, 70), (40, 70)),
        ImageSize((96, 96), (90, 33), (90, 33)),
    )
    for row, image in zip(batch.pixel_values, (wide, tall), strict=True):
        height, width, _ = image.shape
        alone = processor(image).pixel_values[0, :height, :width]
        np.testing.assert_array_equal(row[:height, :width], alone)
        assert (row != 0).any(axis=-1).sum() == height * width


@pytest.mark.parametrize(
    ("size", "edges", "message"),
    [
        ((2000, 3), (1024, None), "2000 x 3 .* would be resized to 682667 x 1024 = 699051008 pix"),
        ((1, 1000), (300, None), "1 x 1000 .* would be resized to 300 x 300000 = 90000000 pixels"),
        ((1, 2**18 + 1), (None, 64), "1 x 262145 .* side of more than 262144 pixels; cut it"),
        ((300_000, 9), (32, 64), "300000 x 9 .* side of more than 262144 pixels; cut it"),
    ],
)
def test_images_too_large_for_the_network_are_refused(size, edges, message):
    shortest, longest = edges
    processor = ImageProcessor(shortest_edge=shortest, longest_edge=longest)
    with pytest.raises(ValueError, match=message):
        processor.size_of(size)


def test_thin_images_within_the_limits_are_sized():
    processor = ImageProcessor(shortest_edge=1024, longest_edge=1333)
    assert processor.size_of((3, 2000)).resized == (2, 1333)
    assert processor.size_of((2**18, 1)).padded == (1344, 32)
    assert ImageProcessor().size_of((16, 65504)).padded == (32, 65504)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        ImageProcessor()([])


# --- Segmentations out ---------------------------------------------------------------------------

Q, K = 6, 3
SIZE = ImageSize(padded=(32, 64), resized=(30, 50), original=(45, 75))
PROCESSOR = ImageProcessor(object_mask_threshold=0.3, overlap_threshold=0.3)


def draw(batch=1):
    """Queries with masks that are sure in different degrees, so that ranks change with them."""
    rng = np.random.default_rng(0)
    class_logits = rng.normal(size=(batch, Q, K + 1)) * 2
    mask_logits = rng.normal(size=(batch, Q, 8, 16)) * 4.0 ** rng.uniform(-2, 2, (batch, Q, 1, 1))
    return Predictions(*(jnp.asarray(x, jnp.float32) for x in (class_logits, mask_logits)))


def instances(processor=PROCESSOR, **options):
    [found] = processor.post_process_instance_segmentation(draw(), [SIZE], **options)
    return found


def same(ours, theirs, rows):
    for mine, other in zip(arrays(ours), arrays(theirs), strict=True):
        np.testing.assert_array_equal(mine, other[rows])


def test_instances_of_the_original_size():
    found = instances()
    assert found.masks.shape == (Q * K, 45, 75)
    np.testing.assert_array_equal(found.packed_masks, np.packbits(found.masks, axis=-1))
    assert (np.diff(found.scores) <= 0).all()
    probs = np.exp(draw().class_logits[0]) / np.exp(draw().class_logits[0]).sum(-1, keepdims=True)
    assert (np.diff(probs[found.queries, found.labels]) > 0).any()
    assert {*zip(found.queries.tolist(), found.labels.tolist(), strict=True)} == {
        (q, k) for q in range(Q) for k in range(K)
    }


def test_top_k_counts_class_probabilities():
    everything = instances(top_k=1000)
    assert len(everything) == Q * K
    few = instances(top_k=5)
    pairs = list(zip(everything.queries.tolist(), everything.labels.tolist(), strict=True))
    probs = np.exp(draw().class_logits[0]) / np.exp(draw().class_logits[0]).sum(-1, keepdims=True)
    best = sorted(pairs, key=lambda pair: -probs[pair])[:5]
    same(few, everything, [i for i, pair in enumerate(pairs) if pair in best])
    assert len(instances(top_k=1)) == 1


def test_threshold():
    everything = instances()
    scores = everything.scores
    assert (scores > FOR_DISPLAY).any()
    for threshold in (FOR_DISPLAY, 0.1, float(scores[3]), 0.0):
        same(instances(threshold=threshold), everything, scores >= np.float32(threshold))


def test_only_things_of_the_top_k_remain():
    processor = dataclasses.replace(PROCESSOR, thing_classes=(2,))
    five = instances(top_k=5)
    assert 0 < (five.labels == 2).sum() < 5
    same(instances(processor, top_k=5), five, five.labels == 2)


@pytest.mark.parametrize("options", [{"threshold": 1.0}, {"threshold": 1.0, "top_k": 3}])
def test_no_instances(options):
    found = instances(**options)
    assert len(found) == 0
    assert found.masks.shape == (0, 45, 75)
    assert found.boxes.shape == (0, 4)


def test_no_segments():
    processor = dataclasses.replace(PROCESSOR, object_mask_threshold=1.0)
    [found] = processor.post_process_panoptic_segmentation(draw(), [SIZE])
    assert found.segments == ()
    np.testing.assert_array_equal(found.segment_map, np.zeros((45, 75), np.int32))


def test_segments_are_those_of_the_map():
    [found] = PROCESSOR.post_process_panoptic_segmentation(draw(), [SIZE], thing_classes=(0,))
    assert {segment.id for segment in found.segments} | {0} == set(np.unique(found.segment_map))
    assert [segment.id for segment in found.segments] == list(range(1, len(found) + 1))
    assert all(segment.is_thing == (segment.label == 0) for segment in found.segments)
    assert all(0.3 < segment.score <= 1 for segment in found.segments)
    of_the_processor = dataclasses.replace(PROCESSOR, thing_classes=(0,))
    [same_segments] = of_the_processor.post_process_panoptic_segmentation(draw(), [SIZE])
    assert same_segments.segments == found.segments


METHODS = (
    ImageProcessor.post_process_instance_segmentation,
    ImageProcessor.post_process_panoptic_segmentation,
    ImageProcessor.post_process_semantic_segmentation,
)


def arrays(segmentation):
    if isinstance(segmentation, np.ndarray):
        return [segmentation]
    if isinstance(segmentation, InstanceSegmentation):
        names = ("scores", "labels", "masks", "boxes", "queries")
        return [getattr(segmentation, name) for name in names]
    return [x for x in vars(segmentation).values() if isinstance(x, np.ndarray)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("resize_scores", [False, True])
def test_images_of_a_batch_do_not_mix(method, resize_scores):
    processor = dataclasses.replace(PROCESSOR, resize_scores=resize_scores)
    predictions, sizes = draw(batch=2), [SIZE, ImageSize((32, 64), (32, 64), (32, 64))]
    together = method(processor, predictions, sizes)
    for i, size in enumerate(sizes):
        [alone] = method(processor, Predictions(*(x[i : i + 1] for x in predictions)), [size])
        for ours, theirs in zip(arrays(together[i]), arrays(alone), strict=True):
            np.testing.assert_array_equal(ours, theirs, strict=True)


@pytest.mark.parametrize("method", METHODS)
def test_target_sizes(method):
    [segmentation] = method(PROCESSOR, draw(), [SIZE], target_sizes=[(20, 200)])
    target = ImageSize(SIZE.padded, SIZE.resized, (20, 200))
    [as_original] = method(PROCESSOR, draw(), [target])
    for ours, theirs in zip(arrays(segmentation), arrays(as_original), strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)
    shapes = {x.shape[-2:] for x in arrays(segmentation) if x.size and x.shape[-1] > 4}
    assert (20, 200) in shapes


@pytest.mark.parametrize("method", METHODS)
def test_one_size_per_image(method):
    with pytest.raises(ValueError, match="2 predictions, 1 sizes and 1 target sizes"):
        method(PROCESSOR, draw(batch=2), [SIZE])
    with pytest.raises(ValueError, match="1 predictions, 1 sizes and 2 target sizes"):
        method(PROCESSOR, draw(), [SIZE], target_sizes=[(20, 20)] * 2)


# --- Files ---------------------------------------------------------------------------------------


def test_processor_survives_json(tmp_path):
    processor = ImageProcessor(
        shortest_edge=800, longest_edge=1333, mean=(1.0, 2.0, 3.5), thing_classes=(0, 2)
    )
    for ours in (processor, ImageProcessor(resize_scores=True)):
        ours.save_pretrained(tmp_path / "new folder")
        assert ImageProcessor.load(tmp_path / "new folder" / "preprocessor_config.json") == ours


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"do_resize": True}, r"file\.json has no field do_resize"),
        ({"shortest_edge": "800"}, r"file\.json\.shortest_edge has the value '800'; expected int"),
        ({"mean": [1, None, 3]}, r"file\.json\.mean\[1\] has the value None; expected float"),
        ({"resize_scores": 1}, r"file\.json\.resize_scores has the value 1; expected bool"),
    ],
)
def test_bad_files_are_refused_by_field(values, message, tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        ImageProcessor.load(path)


def test_settings_of_published_models():
    coco = preset("swin-tiny-coco-panoptic").config
    processor = ImageProcessor.for_model(coco)
    assert (processor.shortest_edge, processor.longest_edge) == (800, 1333)
    assert processor.thing_classes == tuple(range(80))
    assert not processor.resize_scores
    assert ImageProcessor.for_model(preset("swin-large-ade-semantic").config).resize_scores
    vistas = ImageProcessor.for_model(preset("swin-large-mapillary-vistas-panoptic").config)
    assert vistas.object_mask_threshold == 0
    unknown = ImageProcessor.for_model(dataclasses.replace(coco, labels=things(coco.labels)[:7]))
    assert unknown == ImageProcessor(thing_classes=tuple(range(7)))


def test_arrays_of_other_libraries_are_refused():
    """In a process of its own: in this one the hook that checks shapes would refuse them first."""
    code = """
import jax.numpy as jnp
from m2f_jax import ImageProcessor
try:
    ImageProcessor()(jnp.zeros((40, 40, 3), jnp.uint8))
except TypeError as error:
    assert "np.asarray" in str(error), error
else:
    raise AssertionError("accepted")
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
