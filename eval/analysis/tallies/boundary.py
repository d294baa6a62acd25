"""What was counted in each image by Boundary IoU (Cheng et al., CVPR 2021)."""

from dataclasses import dataclass

from .instances import InstanceTally
from .tally import Tally


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundaryTally:
    """A tally by the smaller one of the overlaps of masks and of boundaries.

    Attributes:
        tally: what was counted.
        dilation_ratio: how wide boundaries are, as a part of the image's diagonal.
    """

    tally: Tally
    dilation_ratio: float

    @property
    def name(self) -> str:
        """The name of the score: "Boundary AP" or "Boundary PQ"."""
        return f"Boundary {self.tally.score}"

    @property
    def image_name(self) -> str:
        """The name of the images' score."""
        return "F1 by boundaries" if isinstance(self.tally, InstanceTally) else self.name
