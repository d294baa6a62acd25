"""Writes docs/models.md from m2f_jax.presets; with --check, fails if the page is stale."""

import argparse
import difflib
import sys
from pathlib import Path

from m2f_jax.cli.commands.models import digits_of
from m2f_jax.presets import DATA_SETS, HUB_PREFIX, LICENSE, LICENSE_URL, PRESETS, Preset

PAGE = Path(__file__).with_name("models.md")
ZOOS = {
    "Mask2Former": "https://github.com/facebookresearch/Mask2Former/blob/main/MODEL_ZOO.md",
    "MaskFormer": "https://github.com/facebookresearch/MaskFormer/blob/main/MODEL_ZOO.md",
}
METRICS = ("PQ", "AP", "AP50", "mIoU")
COLUMNS = ("model", "classes", "queries", "parameters", "size", *METRICS, "hub", "file")
INTRODUCTION = f"""\
# Models

<!-- Written by docs/generate_models.py; change m2f_jax/presets/model_zoo.py and run it again. -->

The {len(PRESETS)} published models that are known here. `m2f models cityscapes resnet` lists \
those that these words fit: backbone, data set, task, architecture (mask2former, maskformer or \
video_mask2former) or file. `m2f info NAME` shows a model's architecture, parameters and classes \
without fetching it. `m2f train` takes the name as a recipe, except that of a video model: it \
reads no videos.

**Where they are.** Models with a link in the column "hub" are on the Hugging Face hub: wherever a \
command or `from_pretrained` takes a `SOURCE`, give the id that the link ends with, such as \
`{HUB_PREFIX}swin-tiny-coco-instance`. All are in the authors' model zoos (\
{", ".join(f"[{name}]({url})" for name, url in ZOOS.items())}), as `model_final_` and the digits \
in the column "file"; give the downloaded `.pkl` as `SOURCE`.

**Scores** are the authors', in percent, on the validation images at a single scale: PQ \
(panoptic), AP and AP50 of masks (instance) and mIoU (semantic), as far as their model zoo reports \
them. Images are resized until the shorter side has the first number of pixels in the column \
"size", or fewer where the longer side would exceed the second. \
[`m2f eval`](evaluate.md#beside-the-published-scores) prints them beside what it measures.

**Parameters** are in millions, with both decoders. `swin-base` was pretrained on ImageNet-1k, \
`swin-base-IN21k` and `swin-large` on ImageNet-21k, the ResNets on ImageNet-1k; of the \
MaskFormers, `swin-base` on ImageNet-21k too. `resnet101c` is DeepLab's form of a ResNet-101.

**Licence.** The published weights are the authors', under [{LICENSE}]({LICENSE_URL}), which \
doesn't allow commercial use; look there what that means for a model that starts from them. [The \
model in the package](train.md#the-model-in-the-package), `streets`, is our own.
"""


BASELINES = {  # MaskFormer's: the authors' file and its mIoU
    "ade20k-150/per_pixel_baseline_R50_bs16_160k": ("1043f3", 39.2),
    "ade20k-150/per_pixel_baseline_plus_R50_bs16_160k": ("833630", 41.9),
    "ade20k-full-847/per_pixel_baseline_R50_bs16_200k": ("9f66a9", 12.4),
    "ade20k-full-847/per_pixel_baseline_plus_R50_bs16_200k": ("4d31f2", 13.9),
    "coco-stuff-10k-171/per_pixel_baseline_R50_bs32_60k": ("275ab0", 32.4),
    "coco-stuff-10k-171/per_pixel_baseline_plus_R50_bs32_60k": ("1fa920", 34.2),
}
NOT_HERE = f"""
## What isn't here

Of the {len(PRESETS) + len(BASELINES)} models in both model zoos, {len(BASELINES)} don't load: \
MaskFormer's baselines, which classify pixels. They have no queries with a class and a mask each, \
so nothing else here would fit them. Their files are refused.

| configuration | file | mIoU |
|---|--:|--:|
""" + "".join(f"| {name} | {file} | {miou} |\n" for name, (file, miou) in BASELINES.items())


def row_of(name: str, preset: Preset) -> str:
    """A model's line of the table."""
    config = preset.config
    cells = [
        f"`{name}`",
        str(config.num_classes),
        str(config.decoder.num_queries),
        f"{preset.parameters / 1e6:.1f}",
        f"{preset.shortest_edge}/{preset.longest_edge}",
        *(f"{preset.scores[x]:.1f}" if x in preset.scores else "" for x in METRICS),
        f"[hub](https://huggingface.co/{preset.hub})" if preset.hub else "",
        digits_of(preset),
    ]
    return f"| {' | '.join(cells)} |"


def make_page() -> str:
    """The whole page, with a table for each data set."""
    parts = [INTRODUCTION]
    head = [f"| {' | '.join(COLUMNS)} |", f"|---{'|--:' * (len(COLUMNS) - 1)}|"]
    for key, data_set in DATA_SETS.items():
        rows = [row_of(name, preset) for name, preset in PRESETS.items() if preset.data_set == key]
        if rows:
            parts.append("\n".join([f"\n## {data_set.title}\n", *head, *rows]) + "\n")
    return "".join([*parts, NOT_HERE])


def main() -> int:
    """Writes or checks the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, and write nothing")
    options = parser.parse_args()
    page = make_page()
    if not options.check:
        PAGE.write_text(page)
        return 0
    there = PAGE.read_text() if PAGE.exists() else ""
    if there == page:
        return 0
    changes = difflib.unified_diff(there.splitlines(), page.splitlines(), "there", "now", "", "", 0)
    print(*changes, f"{PAGE} is stale; run python docs/generate_models.py", sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
