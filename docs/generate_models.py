"""Writes docs/models.md from m2f_jax.presets; with --check, fails if the page is stale."""

import argparse
import difflib
import sys
from pathlib import Path

from m2f_jax.presets import HUB_PREFIX, PRESETS, Preset

PAGE = Path(__file__).with_name("models.md")
DATA_SETS = {
    "coco": "COCO",
    "cityscapes": "Cityscapes",
    "ade": "ADE20K",
    "mapillary-vistas": "Mapillary Vistas",
}
METRICS = ("PQ", "AP", "AP50", "mIoU")
COLUMNS = ("model", "classes", "queries", "shortest edge", "longest edge", *METRICS, "file")
INTRODUCTION = f"""\
# Models

<!-- Written by docs/generate_models.py; change m2f_jax/presets.py and run it again. -->

The published Mask2Former models for images. Those on Swin are on the Hugging Face hub, but for \
instances of ADE20K: wherever a command or `from_pretrained` takes a `SOURCE`, put `{HUB_PREFIX}` \
before the name. All are in the authors' model zoo, as `model_final_` and the digits in the column \
"file"; give the downloaded `.pkl` as `SOURCE`. `m2f train` takes the name itself, as a recipe. \
`m2f models` lists them, and `m2f info NAME` shows a model's architecture, number of parameters \
and classes without fetching it.

With both decoders a model has 44.0 million parameters on ResNet-50, 63.0 on ResNet-101, 47.4 on \
Swin-T, 68.7 on Swin-S, 106.9 on Swin-B and 215.5 on Swin-L; the number of classes changes little. \
`swin-base` was pretrained on ImageNet-1k, `swin-base-IN21k` and `swin-large` on ImageNet-21k, the \
ResNets on ImageNet-1k.

Scores are the authors', in percent, on the validation images at a single scale: PQ (panoptic), AP \
and AP50 of masks (instance) and mIoU (semantic), as far as their model zoo reports them. Images \
are resized until the shorter side has the shortest edge's pixels, or fewer where the longer side \
would exceed the longest edge.

The published weights are the authors', under CC BY-NC 4.0. [The model in the \
package](train.md#the-model-in-the-package), `streets`, is our own.
"""


def row_of(name: str, preset: Preset) -> str:
    """A model's line of the table."""
    config = preset.config
    cells = [
        f"`{name}`",
        str(config.num_classes),
        str(config.decoder.num_queries),
        str(preset.shortest_edge),
        str(preset.longest_edge),
        *(f"{preset.scores[x]:.1f}" if x in preset.scores else "" for x in METRICS),
        preset.file.removeprefix("model_final_").removesuffix(".pkl"),
    ]
    return f"| {' | '.join(cells)} |"


def make_page() -> str:
    """The whole page, with a table for each data set."""
    parts = [INTRODUCTION]
    rows = {name: row_of(name, preset) for name, preset in PRESETS.items()}
    for key, title in DATA_SETS.items():
        found = [rows.pop(name) for name in PRESETS if f"-{key}-" in name]
        head = [f"| {' | '.join(COLUMNS)} |", f"|---{'|--:' * (len(COLUMNS) - 1)}|"]
        parts.append("\n".join([f"\n## {title}\n", *head, *found]) + "\n")
    if rows:
        raise ValueError(f"DATA_SETS has no heading for {', '.join(rows)}")
    return "".join(parts)


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
