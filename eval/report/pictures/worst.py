"""The worst images of an evaluation as pictures."""

from collections.abc import Callable
from typing import Any

from m2f_jax.images import read_image

from ...analysis.tallies.tally import Tally
from ...tasks import Evaluation, InstanceEvaluation, PanopticEvaluation, SemanticEvaluation
from ..page import percent
from ..sections.overview import worst_images
from .classes import pixel_sides
from .objects import object_sides
from .picture import Picture
from .scenes import instance_scene, panoptic_scene, semantic_maps
from .small_images import jpeg, resized, shrunk

COUNT = 4  # images


def worst_pictures(
    evaluation: Evaluation, tally: Tally, predict: Callable[[int], Any]
) -> list[Picture]:
    """Draws the worst images, as far as their photographs are there.

    Args:
        evaluation: the ground truth.
        tally: of the images; the worst ones are those of their table in the report.
        predict: returns the prediction of the image at an index of the data set, in the form that
            `evaluation.count` takes. Of instances, those with a score from 0.5 are enough.
    """
    images = evaluation.dataset.images
    index = {str(image.id): i for i, image in enumerate(images)}
    index |= {image.name: i for i, image in enumerate(images)}
    pictures = []
    for i in worst_images(tally)[:COUNT]:
        at = index[tally.images[i]]
        if not images[at].image.is_file():
            return []
        counts = {name: int(column[i]) for name, column in tally.image_counts().items()}
        caption, file = caption_of(counts), images[at].image.name
        caption += f" ({file})" * (tally.images[i] not in file)
        pictures.append(picture_of(evaluation, at, predict(at), tally.images[i], caption))
    return pictures


def caption_of(counts: dict[str, int]) -> str:
    """Says in short what is wrong with an image."""
    if "missed" in counts:
        return ", ".join(f"{counts[name]} {name}" for name in ("missed", "false", "right"))
    wrong = counts["wrong pixels"]
    return f"{percent(wrong / max(wrong + counts['right pixels'], 1))} % of the pixels are wrong"


def picture_of(
    evaluation: Evaluation, index: int, prediction: Any, name: str, caption: str
) -> Picture:
    """Draws an image and its prediction, which is in the form that `evaluation.count` takes."""
    image = read_image(evaluation.dataset.images[index].image)
    size = shrunk(image.shape[1], image.shape[0])
    if isinstance(evaluation, SemanticEvaluation):
        truth, found = semantic_maps(evaluation, index, prediction)
        names = [label.name for label in evaluation.dataset.categories]
        sides = pixel_sides(resized(truth, size), resized(found, size), names)
    else:
        assert isinstance(evaluation, InstanceEvaluation | PanopticEvaluation)
        scene = (
            instance_scene(evaluation, index, prediction)
            if isinstance(evaluation, InstanceEvaluation)
            else panoptic_scene(evaluation, index, prediction)
        )
        sides = object_sides(scene, size)
    return Picture(
        name=name,
        caption=caption,
        width=size[0],
        height=size[1],
        photograph=jpeg(image, size),
        ground_truth=sides[0],
        prediction=sides[1],
    )
