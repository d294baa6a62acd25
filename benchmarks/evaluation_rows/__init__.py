"""The cases of evaluation.py: each module writes files, and names the tools that score them.

A new case is a function in a module here, and a line in `CASES`.
"""

from collections.abc import Callable

from evaluation_rows import cityscapes, coco
from evaluation_rows.case import Case, Data

CASES: dict[str, Callable[[Data], Case]] = {
    "cityscapes-instance": cityscapes.instance,
    "cityscapes-panoptic": cityscapes.panoptic,
    "cityscapes-semantic": cityscapes.semantic,
    "coco-instance": coco.instance,
}
