"""ResNets trained on ImageNet: by detectron2 (R-50.pkl), torchvision and timm, and Hugging Face."""

import re
from collections.abc import Iterable

from ..backbones import resnet
from ..backbones.resnet import STAGES, conv_norm
from ..rules import Table, placed

BACKBONE = "backbone."
REQUIRED = resnet.REQUIRED

DETECTRON2 = placed(  # stem.conv1.weight, res2.0.conv1.norm.weight, ...
    Table(
        resnet.AUTHORS_RULES,
        unused=(resnet.COUNTERS, r"stem\.fc\.(weight|bias)"),  # the classes
    ),
    theirs="",
    ours=BACKBONE,
)
TORCHVISION = placed(  # conv1.weight, bn1.weight, layer1.0.conv1.weight, ...; so does timm
    Table(
        (
            *conv_norm("conv1", "bn1", "stem.convs.0"),
            *(
                rule
                for i, stage in enumerate(STAGES, 1)
                for part, norm, conv in (
                    ("downsample.0", "downsample.1", "shortcut"),
                    *((f"conv{k}", f"bn{k}", f"conv{k}") for k in (1, 2, 3)),
                )
                for rule in conv_norm(
                    f"layer{i}.{{}}.{part}", f"layer{i}.{{}}.{norm}", f"{stage}.{{}}.{conv}"
                )
            ),
        ),
        unused=(resnet.COUNTERS, r"fc\.(weight|bias)"),
        spellings=((r"module\.", ""),),  # of a DistributedDataParallel
    ),
    theirs="",
    ours=BACKBONE,
)
HUGGING_FACE = placed(
    Table(
        resnet.HUGGING_FACE_RULES,
        unused=(resnet.COUNTERS, r"classifier\.\d+\.(weight|bias)"),
        spellings=((r"module\.", ""), (r"resnet\.", "")),  # of a model with classes
    ),
    theirs="",
    ours=BACKBONE,
)


def find_table(names: Iterable[str]) -> Table | None:
    """Returns the table of a file with tensors of these names; None if it isn't a ResNet's."""
    marks = {
        r"stem\.conv1\.weight": DETECTRON2,
        r"(module\.)?layer1\.0\.conv1\.weight": TORCHVISION,
    }
    for name in names:
        for mark, table in marks.items():
            if re.fullmatch(mark, name):
                return table
    return None
