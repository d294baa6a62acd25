"""The losses, costs and gradients are the authors', for their predictions and points."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m2f_jax.convert.files.formats import StoredTensor
from m2f_jax.convert.tables import authors, rules

from m2f_jax.config import MaskFormerConfig
from m2f_jax.labels import numbered
from m2f_jax.modeling.model import training_network
from m2f_jax.modeling.parameters import fill, parameters
from m2f_jax.structures import Predictions, Targets
from m2f_jax.training import LossConfig, LossPoints, loss
from m2f_jax.training.config import loss_of
from m2f_jax.training.losses.criterion import factor, nearest_masks
from m2f_jax.training.losses.matching import matching_costs
from tests.conftest import MASKFORMERS, NAMES

KEY = jax.random.key(0)


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=0, strict=True)


def golden_case(golden):
    """What loss.npz holds, laid out as `loss` takes it, with one more target that fills up."""
    stored = dict(np.load(golden.folder / "loss.npz"))
    settings, sizes = golden.settings["loss"], golden.settings["image_sizes"]
    if golden.name in MASKFORMERS:
        config = loss_of(MaskFormerConfig(labels=numbered(1), task="semantic"))
    else:
        config = LossConfig(num_points=settings["num_points"])
    layers, images = golden.settings["num_predictions"], len(sizes)
    counts = [len(stored[f"target_labels_{i}"]) for i in range(images)]
    most = max(counts) + 1
    labels, valid = np.zeros((images, most), np.int32), np.zeros((images, most), bool)
    masks = np.zeros((images, most, *golden.settings["padded_size"]), bool)
    assignment = np.full((layers, images, most), -1, np.int32)
    for i, ((height, width), count) in enumerate(zip(sizes, counts, strict=True)):
        labels[i, :count], valid[i, :count] = stored[f"target_labels_{i}"], True
        packed = stored[f"target_masks_{i}"]
        unpacked = np.unpackbits(packed, axis=1, count=height * width)
        masks[i, :count, :height, :width] = unpacked.reshape(-1, height, width)
        for layer in range(layers):
            matched = stored[f"match_target_p{layer}_{i}"]
            assignment[layer, i, matched] = stored[f"match_query_p{layer}_{i}"]
    return types.SimpleNamespace(
        config=config,
        predictions=tuple(
            map(Predictions, *(golden.network[f"{x}_logits"] for x in ("class", "mask")))
        ),
        targets=Targets(labels, masks, valid),
        points=golden_points(stored, config, counts, most) if config.num_points else None,
        assignment=assignment,
        stored=stored,
        grad_names=golden.settings["grad_names"],
    )


def golden_points(stored, config, counts, most):
    """The points of loss.npz, by target; theirs are in the order of queries."""
    layers = len(stored["candidate_points"])
    candidates = np.zeros((layers, len(counts), most, config.num_candidates, 2), np.float32)
    extra = np.zeros((*candidates.shape[:3], stored["random_points"].shape[2], 2), np.float32)
    for i, count in enumerate(counts):
        pairs = slice(sum(counts[:i]), sum(counts[:i]) + count)
        for layer in range(layers):
            matched = stored[f"match_target_p{layer}_{i}"]
            candidates[layer, i, matched] = stored["candidate_points"][layer, pairs]
            extra[layer, i, matched] = stored["random_points"][layer, pairs]
    return LossPoints(stored["matcher_points"], candidates, extra)


def check_losses(losses, case, tolerance):
    np.testing.assert_array_equal(losses.assignment, case.assignment)
    close(losses.terms["class"], case.stored["loss_ce"], tolerance)
    close(losses.terms[case.config.mask_term], case.stored["loss_mask"], tolerance)
    close(losses.terms["dice"], case.stored["loss_dice"], tolerance)
    close(losses.total, case.stored["total"][0], tolerance)
    assert losses.non_finite_costs == 0


@pytest.mark.parametrize("golden", [*NAMES, *MASKFORMERS], indirect=True)
def test_losses_of_the_authors_predictions(golden, run):
    case = golden_case(golden)
    of_case = functools.partial(loss, config=case.config, key=KEY)
    losses = run(
        lambda predictions: of_case(predictions, case.targets, points=case.points),
        case.predictions,
    )
    check_losses(losses, case, 1e-6)


@pytest.mark.parametrize("golden", MASKFORMERS, indirect=True)
def test_costs_of_whole_masks_are_the_authors(golden, run):
    """At the predictions' size, of which maskformer_r50's isn't a quarter of the images'."""
    case = golden_case(golden)
    predictions = case.predictions
    size = predictions[0].mask_logits.shape[2:]

    def costs(labels, masks):
        masks = nearest_masks(masks, size)
        return matching_costs(factor(predictions), labels, masks, None, config=case.config)

    ours = run(costs, *map(jnp.asarray, case.targets[:2]))
    for layer, image in np.ndindex(*ours.shape[:2]):
        theirs = case.stored[f"cost_p{layer}_{image}"]
        found = np.asarray(ours[layer, image, : theirs.shape[1]]).T
        np.testing.assert_allclose(found, theirs, rtol=1e-6, atol=1e-6 * abs(theirs).max())


@pytest.mark.parametrize(
    "golden",
    [
        pytest.param("tiny_batch2", marks=pytest.mark.slow),
        pytest.param("r50_tiny", marks=pytest.mark.slow),
        "maskformer_swin",
        pytest.param("maskformer_r50", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_gradients(golden, run):
    """With test_clips.py, of every part, and of parts of unlike widths; once for each."""
    pixel_values = np.moveaxis(golden.network["pixel_values"], 1, -1)
    check_gradients(golden.model, pixel_values, golden_case(golden), run)


def check_gradients(model, pixel_values, case, run):
    """By every parameter, through the whole model, in the authors' names and layouts."""

    def total(arrays):
        predictions = training_network(fill(model, arrays), jnp.asarray(pixel_values))
        losses = loss(predictions, case.targets, case.config, key=KEY, points=case.points)
        return losses.total, losses

    arrays = {name: value[...] for name, value in parameters(model).items()}
    (_, losses), gradients = run(jax.value_and_grad(total, has_aux=True), arrays)
    check_losses(losses, case, 1e-4)

    ours = {name: StoredTensor.of(np.asarray(x)) for name, x in gradients.items()}
    theirs = {}
    for rule in rules.expand(authors.table_of(model.config).rules, arrays):
        theirs |= {name: tensor.read() for name, tensor in rules.save(rule, ours).items()}
    spellings = authors.spellings(case.grad_names)
    found = {name: theirs[rules.respell(name, spellings)] for name in case.grad_names}
    norms = np.array([np.linalg.norm(x) for x in found.values()], np.float32)
    # Seven biases have none: the norm behind them subtracts it, and leaves the largest's rounding.
    noise = 1e-6 * norms.max()
    np.testing.assert_allclose(norms, case.stored["grad_norms"], rtol=1e-4, atol=noise)
    for name, expected in case.stored.items():
        if name.startswith("grad:"):
            ours = found[name.removeprefix("grad:")]
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
