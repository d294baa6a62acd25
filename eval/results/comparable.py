"""Which published scores a model's measured ones can be compared with."""

import collections
import dataclasses

from m2f_jax.config import ModelConfig, Task
from m2f_jax.datasets.coco import CocoDataset
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.presets import DATA_SETS, PRESETS, Preset, name_of

from .published import Published

OWN_RULES = ("cityscapes", "youtubevis")  # all other data sets have COCO's
METRICS = {"instance": ("AP", "AP50"), "panoptic": ("PQ",), "semantic": ("mIoU",)}


def published_scores(
    config: ModelConfig,
    processor: ImageProcessor,
    dataset: Dataset | YtvisDataset,
    task: Task,
    count: int,
    source: str | None = None,
) -> Published:
    """Returns the scores that the authors published of a model, if it was evaluated as they did.

    Theirs are of all validation images, at the test size and thresholds of the preset.

    Args:
        config: of the model; a published one has the same.
        processor: how images were prepared and predictions read.
        dataset: what the model was evaluated on.
        task: what was evaluated.
        count: on how many images.
        source: the hub id or path of the model, which tells apart two that are configured alike.
    """
    alike = {name: preset for name, preset in PRESETS.items() if preset.config == config}
    named = None if source is None else name_of(source)
    if named in alike:
        alike = {named: alike[named]}
    scores = {
        name: {metric: x for metric, x in preset.scores.items() if metric in METRICS[task]}
        for name, preset in alike.items()
    }
    if not any(scores.values()):
        return Published()
    if len(alike) > 1:
        return Published(
            problem=f"{' and '.join(alike)} are configured alike and scored differently; give the "
            "model by its hub id, or in a file or folder of the published name"
        )
    [(name, preset)] = alike.items()
    problem = different_data(preset, dataset, task, count) or different_test(config, processor)
    if not problem:
        return Published(model=name, scores=scores[name])
    theirs = ", ".join(f"{metric} {score:.1f}" for metric, score in scores[name].items())
    return Published(model=name, problem=f"the published {theirs} of {name} {problem}")


def different_data(preset: Preset, dataset: Dataset | YtvisDataset, task: Task, count: int) -> str:
    """Says how images or metric differ from those of the published scores; "" if they don't.

    Data sets are told apart by their rules, the number of images and, of Cityscapes, the cities.
    """
    data = DATA_SETS[preset.data_set]
    rules = preset.data_set.partition("-")[0]
    unit = "videos" if rules == "youtubevis" else "images"
    theirs = f"is of the {data.validation_images} validation {unit} of {data.title}"
    if dataset.rules != (rules if rules in OWN_RULES else "coco"):
        return f"{theirs}, and this was counted by the rules of another data set"
    if count != data.validation_images:
        return f"{theirs}, and this is of {count}"
    cities = collections.Counter(image.name.partition("_")[0] for image in dataset.images)
    if data.cities and cities != data.cities:
        return f"{theirs}, and these images are others"
    if task == "instance" and isinstance(dataset, CocoDataset) and dataset.panoptic:
        return "is of objects that may overlap (instances_*.json), and this is of panoptic segments"
    return ""


def different_test(config: ModelConfig, processor: ImageProcessor) -> str:
    """Says how a processor's settings differ from the authors'; "" if they don't."""
    theirs = ImageProcessor.for_model(config)
    differences = [
        f"{field.name} {getattr(theirs, field.name)} instead of {getattr(processor, field.name)}"
        for field in dataclasses.fields(ImageProcessor)
        if field.name != "thing_classes"
        and getattr(theirs, field.name) != getattr(processor, field.name)
    ]
    if set(things_of(theirs, config)) != set(things_of(processor, config)):
        differences.append("other thing_classes")
    return f"was measured with {', '.join(differences)}" if differences else ""


def things_of(processor: ImageProcessor, config: ModelConfig) -> tuple[int, ...]:
    """Returns the class indices of things."""
    named = processor.thing_classes
    return tuple(range(config.num_classes)) if named is None else named
