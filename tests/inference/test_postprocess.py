"""The three inferences equal the authors', written out naively in float64; and stay small.

A pixel whose value is within 1e-4 of a threshold or of another's may fall either way in float32.
"""

import dataclasses
import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.inference import postprocess, upsampling
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.upsampling import plan_score_upsampling, plan_upsampling
from m2f_jax.structures import ImageSize, Predictions

Q, K = 13, 4  # not a multiple of how many queries are taken at once
SIZES = {
    "as it is": ImageSize(padded=(160, 96), resized=(160, 96), original=(160, 96)),
    "padded": ImageSize(padded=(160, 96), resized=(130, 75), original=(130, 75)),
    "smaller than the input": ImageSize(padded=(160, 96), resized=(153, 90), original=(75, 41)),
    "larger": ImageSize(padded=(160, 96), resized=(130, 75), original=(390, 194)),
}


@pytest.fixture(params=SIZES)
def size(request):
    return SIZES[request.param]


@pytest.fixture(params=[0, 1], ids=["a seed", "another"])
def predictions(request):
    """Discs that overlap, most of them of some class: with two of a kind and some in vain."""
    rng = np.random.default_rng(request.param)
    class_logits = rng.normal(size=(Q, K + 1)) * 3
    class_logits[:, K] -= 2
    y, x = np.mgrid[:40, :24]
    centre_y, centre_x, radius = rng.uniform(0, [[40], [24], [12]], (3, Q))
    distance = np.hypot(y - centre_y[:, None, None], x - centre_x[:, None, None])
    inside = (radius[:, None, None] - distance).clip(min=-4)
    mask_logits = inside + rng.normal(size=(Q, 40, 24))
    return Predictions(*(jnp.asarray(x[None], jnp.float32) for x in (class_logits, mask_logits)))


# --- The authors' inference ----------------------------------------------------------------------


def resize(x, size):
    """Bilinear, of the last two axes."""
    for axis, target in ((-2, size[0]), (-1, size[1])):
        source = x.shape[axis]
        position = ((np.arange(target) + 0.5) * source / target - 0.5).clip(0, source - 1)
        first = np.floor(position).astype(int)
        weight = (position - first).reshape((-1, 1) if axis == -2 else -1)
        x = (
            x.take(first, axis) * (1 - weight)
            + x.take(np.minimum(first + 1, source - 1), axis) * weight
        )
    return x


def crop(x, size):
    return x[..., : size[0], : size[1]]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive(predictions, size):
    """Class probabilities, and mask logits at the padded and at the original size."""
    class_logits, mask_logits = (np.asarray(x[0], np.float64) for x in predictions)
    probs = np.exp(class_logits) / np.exp(class_logits).sum(axis=-1, keepdims=True)
    padded = resize(mask_logits, size.padded)
    return probs, padded, resize(crop(padded, size.resized), size.original)


def naive_panoptic(
    probs, logits, thing_classes, score_threshold, overlap_threshold, inside_masks=True
):
    """The map, its segments (id, class, score) and where float32 may differ."""
    segment_map = np.zeros(logits.shape[1:], int)
    segments, of_stuff = [], {}
    scores, labels = probs.max(axis=-1), probs.argmax(axis=-1)
    kept = np.flatnonzero((labels != probs.shape[1] - 1) & (scores > score_threshold))
    if not len(kept):
        return segment_map, segments, np.zeros_like(segment_map, bool)
    masks = sigmoid(logits[kept])
    bids = scores[kept, None, None] * masks
    owner = bids.argmax(axis=0)
    for i, query in enumerate(kept):
        label = labels[query]
        inside = masks[i] >= 0.5
        visible = (owner == i) & inside if inside_masks else owner == i
        if not visible.any() or not inside.any():
            continue
        if (owner == i).sum() / inside.sum() < overlap_threshold:
            continue
        if label in of_stuff:
            segment_map[visible] = of_stuff[label]
            continue
        segments.append((len(segments) + 1, label))
        segment_map[visible] = len(segments)
        if label not in thing_classes:
            of_stuff[label] = len(segments)
    best = np.sort(bids, axis=0)
    unclear = inside_masks & (abs(masks - 0.5) < 1e-4).any(axis=0)
    if len(kept) > 1:
        unclear |= best[-1] - best[-2] < 1e-4
    return segment_map, segments, unclear


# --- Ours ----------------------------------------------------------------------------------------


def test_instances(predictions, size):
    probs, _, logits = naive(predictions, size)
    [found] = ImageProcessor().post_process_instance_segmentation(predictions, [size], top_k=20)
    masks = logits > 0
    mean = (sigmoid(logits) * masks).sum(axis=(1, 2)) / (masks.sum(axis=(1, 2)) + 1e-6)
    best = np.argsort(-probs[:, :K], axis=None)[:20]
    scores = (probs[:, :K] * mean[:, None]).ravel()[best]
    best = best[np.argsort(-scores, kind="stable")]

    assert len(found) == 20
    np.testing.assert_array_equal(found.queries, best // K)
    np.testing.assert_array_equal(found.labels, best % K)
    np.testing.assert_allclose(found.scores, np.sort(scores)[::-1], rtol=0, atol=1e-5)
    unclear = abs(logits) < 1e-4
    assert unclear.mean() < 1e-3
    assert not ((found.masks != masks[found.queries]) & ~unclear[found.queries]).any()


def test_instances_below_the_least_score_have_no_mask(predictions):
    size = SIZES["larger"]
    logits = [x[0] for x in predictions]
    way = plan_upsampling((40, 24), size, size.original)
    every, some = (
        postprocess.instances(*logits, way, jnp.float32(least), top_k=30) for least in (0, 0.3)
    )
    wanted = np.asarray(every.class_probs) >= 0.3
    assert 0 < wanted.sum() < 30
    np.testing.assert_array_equal(some.scores, np.where(wanted, every.scores, 0))
    masks, fewer = (np.asarray(x.packed_masks)[x.masks] for x in (every, some))
    np.testing.assert_array_equal(fewer, np.where(wanted[:, None, None], masks, 0))
    assert masks[~wanted].any()


def test_a_query_of_several_classes_has_one_mask(predictions):
    [found] = ImageProcessor().post_process_instance_segmentation(
        predictions, [SIZES["padded"]], top_k=20
    )
    pairs = list(zip(found.queries, found.packed_masks, strict=True))
    places = {query: mask.ctypes.data for query, mask in pairs}
    assert len(places) < 20
    assert len(set(places.values())) == len(places)
    for query, mask in pairs:
        assert mask.ctypes.data == places[query]
        assert not mask.flags.writeable


def check_map(ours, scores):
    best = np.sort(scores, axis=0)
    unclear = best[-1] - best[-2] < 1e-4
    assert unclear.mean() < 1e-2
    assert ours.shape == scores.shape[1:]
    assert not ((ours != scores.argmax(axis=0)) & ~unclear).any()


def test_semantic(predictions, size):
    probs, _, logits = naive(predictions, size)
    [ours] = ImageProcessor().post_process_semantic_segmentation(predictions, [size])
    check_map(ours, np.einsum("qk,qhw->khw", probs[:, :K], sigmoid(logits)))


def test_semantic_of_scores_at_the_padded_size(predictions, size):
    probs, padded, _ = naive(predictions, size)
    scores = np.einsum("qk,qhw->khw", probs[:, :K], sigmoid(padded))
    processor = ImageProcessor(resize_scores=True)
    [ours] = processor.post_process_semantic_segmentation(predictions, [size])
    check_map(ours, resize(crop(scores, size.resized), size.original))


THINGS = {"things": tuple(range(K)), "stuff": (), "both": (1, 3)}


def check_panoptic(predictions, size, thing_classes, score_threshold=0.4, overlap_threshold=0.5):
    probs, _, logits = naive(predictions, size)
    segment_map, segments, unclear = naive_panoptic(
        probs, logits, thing_classes, score_threshold, overlap_threshold
    )
    processor = ImageProcessor(
        thing_classes=thing_classes,
        object_mask_threshold=score_threshold,
        overlap_threshold=overlap_threshold,
    )
    [ours] = processor.post_process_panoptic_segmentation(predictions, [size])
    assert [(segment.id, segment.label) for segment in ours.segments] == segments
    assert unclear.mean() < 1e-2
    assert not ((ours.segment_map != segment_map) & ~unclear).any()
    return ours


@pytest.mark.parametrize("things", THINGS)
def test_panoptic(predictions, size, things):
    check_panoptic(predictions, size, THINGS[things])


def test_stuff_of_a_class_is_one_segment(predictions):
    apart = check_panoptic(predictions, SIZES["larger"], THINGS["things"])
    together = check_panoptic(predictions, SIZES["larger"], THINGS["stuff"])
    labels = [segment.label for segment in apart.segments]
    assert len(together) == len(set(labels)) < len(labels)
    np.testing.assert_array_equal(together.segment_map > 0, apart.segment_map > 0)


@pytest.mark.parametrize(
    "thresholds", [(1.0, 0.5), (0.4, 0.95), (0.0, 0.0)], ids=["no query", "few segments", "all"]
)
def test_panoptic_thresholds(predictions, thresholds):
    check_panoptic(predictions, SIZES["padded"], THINGS["both"], *thresholds)


def test_a_query_without_a_mask_is_no_segment(predictions):
    empty = predictions._replace(mask_logits=jnp.full_like(predictions.mask_logits, -1))
    ours = check_panoptic(empty, SIZES["padded"], THINGS["things"])
    assert len(ours) == 0
    assert not ours.segment_map.any()
    [instances] = ImageProcessor().post_process_instance_segmentation(empty, [SIZES["padded"]])
    assert not instances.scores.any()  # as in the authors' code, which keeps them
    assert not instances.masks.any()


def test_of_equal_bids_the_first_wins(predictions):
    classes = jnp.full((1, 2, K + 1), -200.0).at[0, [0, 1], [2, 1]].set(0)  # both with certainty
    alike = Predictions(classes, predictions.mask_logits[:, [0, 0]])
    processor = ImageProcessor(thing_classes=THINGS["things"])
    [ours] = processor.post_process_panoptic_segmentation(alike, [SIZES["padded"]])
    assert [segment.label for segment in ours.segments] == [2]


def test_queries_that_are_left_out_win_nothing(predictions):
    classes, masks = predictions
    without = Predictions(classes.at[:, 5:, K].set(12), masks.at[:, 5:].set(10))
    assert len(check_panoptic(without, SIZES["padded"], THINGS["things"])) > 0


def test_one_query_owns_all_of_its_mask(predictions):
    alone = Predictions(predictions.class_logits[:, :1], predictions.mask_logits[:, :1])
    check_panoptic(alone, SIZES["larger"], THINGS["things"], 0.0, 1.0)


def draw_size(rng):
    """Any image, and rows of logits for every fourth of the input's."""
    padded = int(rng.choice([32, 96, 416, 896]))  # few, for each is compiled
    target = int(rng.choice([1, 400, 900])) + int(rng.integers(100))  # of three canvases
    return padded // 4, padded, int(rng.integers(padded - 31, padded + 1)), target


rows_in_blocks = jax.jit(upsampling.rows_in_blocks, static_argnums=0)
columns_in_blocks = jax.jit(upsampling.columns_in_blocks, static_argnums=(1, 2))
score_columns = jax.jit(upsampling.score_columns, static_argnums=2)


def whole(first, weights, source):
    """The matrix whose blocks are given."""
    matrix = np.zeros((*weights.shape[:2], source))
    for part, i, needed in zip(matrix, np.asarray(first), np.asarray(weights), strict=True):
        part[:, i : i + needed.shape[1]] = needed
    return matrix.reshape(-1, source)


def test_blocks_of_rows_and_columns_are_the_whole_way():
    rng = np.random.default_rng(0)
    spared = []
    worst = 1312 // 4, 1312, 1305, 1281  # needs most rows beyond its scale
    for sizes in [worst, *(draw_size(rng) for _ in range(60))]:
        logits, padded, resized, target = map(int, sizes)
        size = ImageSize((padded, padded), (resized, resized), (target, target))
        to_padded = resize(np.eye(logits), (padded, logits))[:resized]
        expected = resize(to_padded, (target, logits))

        way = plan_upsampling((logits, logits), size, size.original)
        canvas = len(way.inside_rows)
        for first, weights in (
            rows_in_blocks(logits, way.rows),
            columns_in_blocks(way.columns, logits, canvas),
        ):
            spared.append(logits - weights.shape[2])
            matrix = whole(first, weights, logits)
            np.testing.assert_allclose(matrix[:target], expected, rtol=0, atol=1e-6)
            assert not matrix[target:].any()
            assert len(matrix) == canvas

        way = plan_score_upsampling((logits, logits), size, size.original)
        first, *two = rows_in_blocks(logits, way.upper_rows, way.lower_rows)
        upper, lower = (whole(first, weights, logits) for weights in two)
        padded_columns, columns = score_columns(way, way.output_columns, logits)
        spared += [logits - x.shape[2] for x in (two[0], padded_columns.weights, columns.weights)]
        between = upper + (lower - upper) * way.lower_weight[:, None]
        both = whole(*columns, padded) @ whole(*padded_columns, logits)[:padded]
        for matrix in (between, both):
            np.testing.assert_allclose(matrix[:target], expected, rtol=0, atol=1e-6)
            assert len(matrix) == canvas
    assert np.mean(spared) > 15  # otherwise blocks need all rows and columns


def test_arrays_of_one_canvas_have_the_same_shapes():
    for way_of in (plan_upsampling, plan_score_upsampling):
        shapes = set()
        for target in range(257, 385, 3):
            for resized in (225, 256):
                size = ImageSize((256, 256), (resized, resized), (target, target))
                way = way_of((64, 64), size, size.original)
                shapes.add(tuple(x.shape for x in jax.tree.leaves(way)))
        assert len(shapes) == 1


@pytest.mark.parametrize("resize_scores", [False, True])
def test_sizes_of_another_input_are_refused(predictions, resize_scores):
    size = ImageSize(padded=(32, 96), resized=(32, 96), original=(32, 96))
    processor = ImageProcessor(resize_scores=resize_scores)
    with pytest.raises(ValueError, match=r"mask logits of 40 x 24 .* padded to 32 x 96"):
        processor.post_process_semantic_segmentation(predictions, [size])


# --- Memory and compilations ---------------------------------------------------------------------


def post_processing(task, logits, size, classes):
    """A task's function, and its arguments after the logits."""
    threshold = jnp.float32(0.3)
    way = plan_upsampling(logits, size, size.original)
    scores_way = plan_score_upsampling(logits, size, size.original)
    return {
        "instances": (functools.partial(postprocess.instances, top_k=100), way, threshold),
        "semantic": (postprocess.semantic_map, way),
        "semantic of scores": (postprocess.semantic_map_from_scores, scores_way),
        "panoptic": (postprocess.panoptic_map, way, np.ones(classes, bool), threshold, threshold),
    }[task]


def sizes_of_arrays(task, queries, height, width, equations):
    """Bytes of the arrays that post-processing makes of predictions at the image's own size."""
    padded = height + -height % 32, width + -width % 32
    logits = padded[0] // 4, padded[1] // 4
    size = ImageSize(padded, (height, width), (height, width))
    function, *more = post_processing(task, logits, size, 19)
    jaxpr = jax.make_jaxpr(function)(
        jax.ShapeDtypeStruct((queries, 20), jnp.float32),
        jax.ShapeDtypeStruct((queries, *logits), jnp.float32),
        *more,
    )
    return [
        variable.aval.size * variable.aval.dtype.itemsize
        for equation in equations(jaxpr)
        for variable in equation.outvars
    ]


@pytest.mark.parametrize("task", ["instances", "semantic", "semantic of scores", "panoptic"])
def test_no_array_of_queries_times_pixels(task, equations):
    queries, height, width = 100, 1024, 2048
    sizes = sizes_of_arrays(task, queries, height, width, equations)
    assert len(sizes) > 10
    assert max(sizes) < queries * height * width / 4  # a float of each would be 16 times that


@pytest.mark.parametrize("height_and_width", [(16, 65504), (65504, 16), (1, 200_000)])
@pytest.mark.parametrize("task", ["instances", "semantic", "semantic of scores", "panoptic"])
def test_long_thin_images_take_little_memory(task, height_and_width, equations):
    tracemalloc.start()
    sizes = sizes_of_arrays(task, 20, *height_and_width, equations)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1e8  # a matrix of 65504 columns and a fourth of that would take 8.6e9
    assert max(sizes) < 1e9


def number_of_loops(function, logits, more, equations):
    found = equations(jax.make_jaxpr(function)(*logits, *more))
    return sum(x.primitive.name in ("scan", "while") for x in found)


@pytest.fixture
def traced_anew():
    """Programs for other limits are neither taken from the tests before nor left to those after."""
    jax.clear_caches()
    yield jax.clear_caches
    jax.clear_caches()


@pytest.mark.parametrize(("limit", "least"), [("STRIP", 128), ("STRIP_PIXELS", 256 * 128)])
@pytest.mark.parametrize("task", ["instances", "semantic", "semantic of scores", "panoptic"])
def test_strips_of_columns_are_the_whole(
    task, limit, least, predictions, monkeypatch, equations, traced_anew
):
    size = ImageSize(padded=(160, 96), resized=(153, 90), original=(75, 700))
    logits = [x[0] for x in predictions]
    function, *more = post_processing(task, (40, 24), size, K)
    whole = function(*logits, *more)
    loops = number_of_loops(function, logits, more, equations)
    monkeypatch.setattr(upsampling, limit, least)
    traced_anew()
    assert number_of_loops(function, logits, more, equations) > loops
    in_strips = function(*logits, *more)
    if not isinstance(whole, tuple):
        whole, in_strips = (whole,), (in_strips,)
    for ours, theirs in zip(map(np.asarray, in_strips), map(np.asarray, whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6, strict=True)
        assert ours.any()


def test_sizes_on_one_canvas_share_a_compilation(predictions):
    processor = ImageProcessor()
    processor.post_process_semantic_segmentation(predictions, [SIZES["as it is"]])
    compiled = postprocess.semantic_map._cache_size()
    for original in [(129, 1), (256, 128), (133, 100)]:
        size = dataclasses.replace(SIZES["padded"], original=original)
        [found] = processor.post_process_semantic_segmentation(predictions, [size])
        assert found.shape == original
    assert postprocess.semantic_map._cache_size() == compiled
