"""The network of transformers in inference.py."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring.predictions import INSTANCES, PANOPTIC, SEMANTIC
from measuring.timing import Call
from transformers import AutoModelForUniversalSegmentation

from peers.on_torch import OnTorch

if importlib.util.find_spec("torchvision"):
    from transformers import Mask2FormerImageProcessor, MaskFormerImageProcessor
else:
    from transformers.models.mask2former.image_processing_pil_mask2former import (
        Mask2FormerImageProcessorPil as Mask2FormerImageProcessor,
    )
    from transformers.models.maskformer.image_processing_pil_maskformer import (
        MaskFormerImageProcessorPil as MaskFormerImageProcessor,
    )
PROCESSORS: dict[str, Any] = {
    "mask2former": Mask2FormerImageProcessor,
    "maskformer": MaskFormerImageProcessor,
}


class Network(OnTorch):
    """The model with the weights in a folder, whole and in stages."""

    def __init__(self, folder: Path, options: Any):
        super().__init__(options.device, options.threads, tf32=options.tf32)
        self.dtype, self.compile = getattr(torch, options.dtype), options.compile
        height, width = options.size
        model: Any = AutoModelForUniversalSegmentation.from_pretrained(folder, dtype=self.dtype)
        self.model = model.eval().to(self.device)
        self.kind: str = model.config.model_type
        self.processor = PROCESSORS[self.kind](size={"height": height, "width": width})
        self.wait()

    def maps(self, maps: Any) -> torch.Tensor:
        """Returns channels-last maps as theirs: channels first, in their dtype, on the device."""
        return self.place_array(np.moveaxis(np.asarray(maps).astype(np.float32), -1, 1), self.dtype)

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.call(self.model, pixel_values=self.maps(pixel_values))

    def compiled(self, pixel_values: np.ndarray) -> Call:
        """Returns the network through torch.compile."""
        return self.call(torch.compile(self.model), pixel_values=self.maps(pixel_values))

    def predictions(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns class and mask logits."""
        output = self.network(pixel_values)()
        logits = output.class_queries_logits, output.masks_queries_logits
        return logits[0].float().cpu().numpy(), logits[1].float().cpu().numpy()

    def stages(self, pixel_values: Any, features: Any, pyramid: Any, per_pixel: Any) -> Any:
        """Returns a call for each stage, given tensors as the stage before it makes them.

        For a MaskFormer, only the backbone: theirs divides the rest in another way.
        """
        model = self.model.model
        backbone = {"backbone": self.call(model.pixel_level_module.encoder, pixel_values)}
        if self.kind == "maskformer":
            return backbone
        return {
            **backbone,
            "pixel decoder": self.call(
                model.pixel_level_module.decoder, features, output_hidden_states=False
            ),
            "Transformer decoder": self.call(
                model.transformer_module,
                multi_scale_features=pyramid,
                mask_features=per_pixel,
                output_hidden_states=True,
            ),
        }

    def instances(self, output: Any, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns a mask of every query in the size of its image, from the network's output."""
        output.class_queries_logits = output.class_queries_logits.float()
        output.masks_queries_logits = output.masks_queries_logits.float()
        results = self.processor.post_process_instance_segmentation(
            output,
            threshold=0.0,
            target_sizes=[image.shape[:2] for image in images],
            return_binary_maps=True,
        )
        return [result["segmentation"].cpu().numpy() for result in results]

    def semantic_maps(self, output: Any, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the class of every pixel of each image, from the network's output."""
        maps = self.processor.post_process_semantic_segmentation(
            output, target_sizes=[image.shape[:2] for image in images]
        )
        return [x.cpu().numpy() for x in maps]

    def panoptic_maps(
        self, output: Any, images: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, dict[int, int]]]:
        """Returns the segment of every pixel of each image, and each segment's class."""
        results = self.processor.post_process_panoptic_segmentation(
            output,
            threshold=0.8,
            overlap_mask_area_threshold=0.8,
            label_ids_to_fuse=set(),
            target_sizes=[image.shape[:2] for image in images],
        )
        return [
            (x["segmentation"].cpu().numpy(), {s["id"]: s["label_id"] for s in x["segments_info"]})
            for x in results
        ]

    def segment(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns a mask of every query in the size of its image, from uint8 images."""
        batch = self.processor(images=images, return_tensors="pt")
        pixel_values = batch["pixel_values"].to(self.device, self.dtype)
        return self.instances(self.model(pixel_values=pixel_values), images)

    def calls(self, inputs: Any) -> dict[str, Callable[[], Any]]:
        """Returns a call for each row of the table."""
        drawn = self.network(inputs.pixel_values)()
        drawn.class_queries_logits, drawn.masks_queries_logits = (
            torch.tensor(x, device=self.device) for x in inputs.drawn
        )
        more = {}
        if self.compile:
            more["whole forward, torch.compile"] = self.compiled(inputs.pixel_values)
        return {
            "whole forward": self.network(inputs.pixel_values),
            **more,
            **self.stages(
                self.maps(inputs.pixel_values),
                [self.maps(maps) for maps in inputs.features],
                [self.maps(maps) for maps in inputs.pyramid.features],
                self.maps(inputs.pyramid.per_pixel),
            ),
            "preprocessing": lambda: self.processor(images=inputs.larger, return_tensors="pt"),
            INSTANCES: self.call(self.instances, drawn, inputs.larger),
            SEMANTIC: self.call(self.semantic_maps, drawn, inputs.larger),
            PANOPTIC: self.call(self.panoptic_maps, drawn, inputs.larger),
            "image to instances": self.call(self.segment, inputs.images),
        }
