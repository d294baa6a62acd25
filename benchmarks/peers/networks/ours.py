"""This project's network in inference.py."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from measuring.images import draw_images
from measuring.predictions import INSTANCES, PANOPTIC, SEMANTIC, Drawn, draw_predictions
from measuring.programs import forward_of
from measuring.timing import Call

from m2f_jax import FeaturePyramid, ImageProcessor, ImageSize, Predictions, Segmenter, load
from peers.on_jax import OnJax

ENLARGED = 1.25  # side of images to resize, relative to the network's input


class Inputs(NamedTuple):
    """The inputs of all sides: images, and what each stage hands to the next."""

    images: list[np.ndarray]  # of the size of the network's input
    larger: list[np.ndarray]  # what `pixel_values` is made of
    sizes: tuple[ImageSize, ...]  # how `larger` was resized
    pixel_values: np.ndarray
    features: tuple[Any, ...]  # of the backbone
    pyramid: FeaturePyramid  # of the pixel decoder
    predictions: Predictions
    drawn: Drawn  # of the same shapes, for post-processing


class Network(OnJax):
    """The model with the weights in a folder, whole and in stages."""

    def __init__(self, folder: Path, options: Any):
        super().__init__(options.device, "tensorfloat32" if options.tf32 else "highest")
        self.options = options
        with jax.default_device(self.device):
            self.model = load(folder, options.dtype).model
        jax.block_until_ready(nnx.state(self.model))
        self.functions: dict[str, tuple[Callable[..., Any], Any]] = {}
        self.processor = ImageProcessor(
            shortest_edge=min(options.size), longest_edge=max(options.size)
        )

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.stage("model", pixel_values)

    def stage(self, name: str, inputs: Any) -> Call:
        """Returns a call of the model or a stage of it, given what the stage before it makes."""
        if name not in self.functions:
            graph, state = nnx.split(operator.attrgetter(name)(self))
            self.functions[name] = forward_of(graph), nnx.as_pure(state)
        return self.call(*self.functions[name], inputs)

    def inputs(self) -> Inputs:
        """Returns the inputs of every side."""
        of_size = self.options.batch, self.options.size
        images, larger = draw_images(*of_size), draw_images(*of_size, ENLARGED)
        batch = self.processor(larger)
        pixel_values = np.asarray(batch.pixel_values)
        features = self.stage("model.backbone", pixel_values.astype(self.model.dtype))()
        pyramid = self.stage("model.pixel_decoder", features)()
        predictions = self.network(pixel_values)()
        drawn = draw_predictions(*predictions)
        return Inputs(
            images, larger, batch.sizes, pixel_values, features, pyramid, predictions, drawn
        )

    def calls(self, inputs: Inputs) -> dict[str, Callable[[], Any]]:
        """Returns a call for each row of the table."""
        queries = inputs.predictions.class_logits.shape[1]
        segmenter = Segmenter(self.model, self.processor, [self.device])
        network = self.network(inputs.pixel_values)

        drawn = Predictions(*map(jax.numpy.asarray, inputs.drawn))

        def instances() -> list[np.ndarray]:
            results = self.processor.post_process_instance_segmentation(
                drawn, inputs.sizes, top_k=queries
            )
            return [result.masks for result in results]  # arrays, as the peers'

        def semantic_maps() -> list[np.ndarray]:
            return self.processor.post_process_semantic_segmentation(drawn, inputs.sizes)

        def panoptic_maps() -> list[tuple[np.ndarray, dict[int, int]]]:
            results = self.processor.post_process_panoptic_segmentation(drawn, inputs.sizes)
            return [(x.segment_map, {s.id: s.label for s in x.segments}) for x in results]

        def segment() -> list[np.ndarray]:
            results = segmenter.stream(inputs.images, "instance", top_k=queries)
            return [result.masks for result in results]

        return {
            "whole forward": network,
            **({"whole forward, torch.compile": network} if self.options.compile else {}),
            "backbone": self.stage("model.backbone", inputs.pixel_values.astype(self.model.dtype)),
            "pixel decoder": self.stage("model.pixel_decoder", inputs.features),
            "Transformer decoder": self.stage("model.decoder", inputs.pyramid),
            "preprocessing": lambda: self.processor(inputs.larger),
            INSTANCES: instances,
            SEMANTIC: semantic_maps,
            PANOPTIC: panoptic_maps,
            "image to instances": self.call(segment),
        }
