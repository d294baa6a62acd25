"""The model card: README.md of a repository, whose metadata the hub reads."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from m2f_jax.config import ModelConfig
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.modeling.kinds import class_of
from m2f_jax.modeling.parameters import trained_shapes
from m2f_jax.plain import type_of
from m2f_jax.presets import LICENSE, PRESETS, name_of
from m2f_jax.publishing.records import Measured, TrainingRun

Format = Literal["both", "m2f_jax", "huggingface"]
CLASSES = {  # of transformers, by architecture
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "maskformer": "MaskFormerForInstanceSegmentation",
}
TRANSFORMERS = "transformers"  # the folder of that library's files, beside ours
METRIC_TYPES = {"mIoU": "mean_iou", "AP": "mask_ap", "AP50": "mask_ap50", "AP75": "mask_ap75"}


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is said of a model, and in which format it is published.

    Attributes:
        repository: its name on the hub, such as "somebody/street-model".
        format: "m2f_jax", "huggingface" (what transformers loads), or "both": ours at the top, and
            that of transformers in a folder of its name.
        license: the hub's name of the licence, such as "apache-2.0" or "cc-by-nc-4.0"; None if it
            isn't stated.
        datasets: the hub's names of the data sets that it was trained on.
        results: its scores.
        run: how it was trained.
    """

    repository: str
    format: Format = "both"
    license: str | None = None
    datasets: tuple[str, ...] = ()
    results: tuple[Measured, ...] = ()
    run: TrainingRun | None = None


def model_card(
    publication: Publication, config: ModelConfig, processor: ImageProcessor
) -> ModelCard:
    """Returns the card, with metadata as the hub wants them and a text for people."""
    run = publication.run
    published = None if run is None or run.start is None else name_of(run.start)
    architecture = type_of(config) or type(config).__name__
    backbone = type_of(config.backbone) or type(config.backbone).__name__
    data = ModelCardData(
        base_model=PRESETS[published].hub if published else None,
        datasets=list(publication.datasets) or None,
        eval_results=[x for measured in publication.results for x in metadata_of(measured)] or None,
        library_name=TRANSFORMERS if publication.format == "huggingface" else "m2f-jax",
        license=publication.license,
        model_name=publication.repository.rpartition("/")[2],
        pipeline_tag="image-segmentation",
        tags=[architecture, "jax", f"{config.task}-segmentation", backbone],
    )
    place = f'"{publication.repository}"'
    if publication.format == "both":
        place += f', subfolder="{TRANSFORMERS}"'
    names = (label.name for label in config.labels)
    text = (files("m2f_jax.publishing") / "card.md").read_text(encoding="utf-8")
    return ModelCard.from_template(
        data,
        template_str=text,
        publication=publication,
        place=place,
        name=data.model_name,
        config=config,
        kind=class_of(config).__name__,
        their_class=CLASSES.get(architecture),
        processor=processor,
        backbone=backbone,
        millions=sum(map(math.prod, trained_shapes(config).values())) / 1e6,
        classes=", ".join(map(code, names)),
        rows=[row for measured in publication.results for row in rows_of(measured)],
        start_license=LICENSE if published else None,
        code=code,
    )


def metadata_of(measured: Measured) -> Sequence[EvalResult]:
    """Returns the scores in the form of the hub's model-index."""
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name=f"{measured.task} segmentation",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", measured.data.lower()).strip("-") or "data",
            dataset_name=measured.data,
            dataset_split=measured.split or None,
            dataset_args={"images": measured.images},
            metric_type=METRIC_TYPES.get(name, name.lower().replace(" ", "_")),
            metric_name=name,
            metric_value=round(score, 2),
        )
        for name, score in measured.scores.items()
    ]


def rows_of(measured: Measured) -> Sequence[dict[str, Any]]:
    """Returns the scores as rows of a table."""
    split = f", {measured.split}" if measured.split else ""
    return [
        {
            "data": code(f"{measured.data}{split}"),
            "images": measured.images,
            "task": measured.task,
            "metric": name,
            "score": f"{score:.1f}",
            "dtype": measured.dtype,
        }
        for name, score in measured.scores.items()
    ]


def code(text: str) -> str:
    """Returns a text as inline code for Markdown, in a line or a table's cell."""
    return "`" + re.sub(r"[\s`|]+", " ", text) + "`"
