"""The peers of inference.py, this project among them, each behind the same few methods.

Each loads the weights in a folder, and has `network`, a call of the whole network; `calls`, one per
row of the table; and `peak_device_bytes`. Every framework is imported where it is used: a process
that measures one holds no other.
"""

import importlib
import importlib.util
import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from inputs import Inputs, draw_images
from machine import quieten_transformers
from reporting import OURS
from turns import Call

from m2f_jax.config import Mask2FormerConfig

ENLARGED = 1.25  # images that are resized, compared with the network's input


class Settings(NamedTuple):
    """What is measured, and how."""

    config: Mask2FormerConfig
    size: tuple[int, int]
    batch: int
    dtype: str
    device: str
    tf32: bool
    compiled: bool
    repeats: int
    threads: int
    peers: tuple[str, ...]


class OnJax:
    """What both peers on JAX share."""

    def __init__(self, settings: Settings):
        import jax

        self.settings = settings
        self.device = jax.devices(settings.device)[0]

    def run(self, function: Callable[..., Any], *inputs: Any) -> Call:
        """`function` of inputs on the device, at the precision of the settings, and waited for."""
        import jax

        placed = jax.device_put(inputs, self.device)
        precision = "tensorfloat32" if self.settings.tf32 else "highest"

        def call() -> Any:
            with jax.default_matmul_precision(precision):
                return jax.block_until_ready(function(*placed))

        return call

    def peak_device_bytes(self) -> int:
        return (self.device.memory_stats() or {})["peak_bytes_in_use"]


class Ours(OnJax):
    """This project."""

    def __init__(self, folder: Path, settings: Settings):
        super().__init__(settings)
        import jax
        from flax import nnx

        from m2f_jax import ImageProcessor, Mask2Former

        with jax.default_device(self.device):
            self.model = Mask2Former.from_pretrained(folder, settings.dtype)
        jax.block_until_ready(nnx.state(self.model))
        self.functions: dict[str, tuple[Callable[..., Any], Any]] = {}
        self.processor = ImageProcessor(
            shortest_edge=min(settings.size), longest_edge=max(settings.size)
        )

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.run(*self.compiled("model"), pixel_values)

    def stage(self, name: str, inputs: Any) -> Call:
        """One stage, given what the stage before it makes."""
        return self.run(*self.compiled(f"model.{name}"), inputs)

    def compiled(self, name: str) -> tuple[Callable[..., Any], Any]:
        """The model or a stage of it, as a compiled function of parameters, and these."""
        import jax
        from flax import nnx

        if name not in self.functions:
            graph, state = nnx.split(operator.attrgetter(name)(self))
            function = jax.jit(lambda parameters, inputs: nnx.merge(graph, parameters)(inputs))
            self.functions[name] = function, nnx.as_pure(state)
        return self.functions[name]

    def inputs(self) -> Inputs:
        """What every peer is given at every stage."""
        of_size = self.settings.batch, self.settings.size
        images, larger = draw_images(*of_size), draw_images(*of_size, ENLARGED)
        batch = self.processor(larger)
        pixel_values = np.asarray(batch.pixel_values)
        features = self.stage("backbone", pixel_values.astype(self.model.dtype))()
        pyramid = self.stage("pixel_decoder", features)()
        predictions = self.network(pixel_values)()
        return Inputs(images, larger, batch.sizes, pixel_values, features, pyramid, predictions)

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        from m2f_jax import Segmenter

        queries = inputs.predictions.class_logits.shape[1]
        segmenter = Segmenter(self.model, self.processor, [self.device])
        network = self.network(inputs.pixel_values)
        compiled = {"whole forward, torch.compile": network} if self.settings.compiled else {}

        def post_process() -> list[np.ndarray]:
            results = self.processor.post_process_instance_segmentation(
                inputs.predictions, inputs.sizes, top_k=queries
            )
            return [result.masks for result in results]  # arrays, as the peers'

        def segment() -> list[np.ndarray]:
            results = segmenter.stream(inputs.images, "instance", top_k=queries)
            return [result.masks for result in results]

        return {
            "whole forward": network,
            **compiled,
            "backbone": self.stage("backbone", inputs.pixel_values.astype(self.model.dtype)),
            "pixel decoder": self.stage("pixel_decoder", inputs.features),
            "Transformer decoder": self.stage("decoder", inputs.pyramid),
            "preprocessing": lambda: self.processor(inputs.larger),
            "post-processing": post_process,
            "image to instances": self.run(segment),
        }


class Transformers:
    """Hugging Face's Mask2Former on PyTorch."""

    def __init__(self, folder: Path, settings: Settings):
        import torch
        from transformers import Mask2FormerForUniversalSegmentation

        quieten_transformers()
        torch.set_num_threads(settings.threads)
        torch.backends.cuda.matmul.allow_tf32 = settings.tf32
        torch.backends.cudnn.allow_tf32 = settings.tf32
        self.settings = settings
        self.dtype = getattr(torch, settings.dtype)
        model: Any = Mask2FormerForUniversalSegmentation.from_pretrained(folder, dtype=self.dtype)
        self.model = model.eval().to(settings.device)
        self.wait()

    def wait(self):
        """Until the device is done."""
        import torch

        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    def run(self, function: Callable[..., Any], *inputs: Any, **named: Any) -> Call:
        """`function` without gradients, and waited for."""
        import torch

        def call() -> Any:
            with torch.inference_mode():
                result = function(*inputs, **named)
            self.wait()
            return result

        return call

    def place(self, maps: Any) -> Any:
        """Channels-last maps as theirs: channels first, in their dtype, on their device."""
        import torch

        array = np.moveaxis(np.asarray(maps).astype(np.float32), -1, 1).copy()
        return torch.from_numpy(array).to(self.settings.device, self.dtype)

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.run(self.model, pixel_values=self.place(pixel_values))

    def predictions(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class and mask logits."""
        output = self.network(pixel_values)()
        logits = output.class_queries_logits, output.masks_queries_logits
        return logits[0].float().cpu().numpy(), logits[1].float().cpu().numpy()

    def processor(self) -> Any:
        """Their image processor for this size: the newer one where torchvision is installed."""
        height, width = self.settings.size
        if importlib.util.find_spec("torchvision"):
            from transformers import Mask2FormerImageProcessor as Processor
        else:
            from transformers.models.mask2former.image_processing_pil_mask2former import (
                Mask2FormerImageProcessorPil as Processor,
            )
        return Processor(size={"height": height, "width": width})

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        import torch
        from transformers.models.mask2former.modeling_mask2former import (
            Mask2FormerForUniversalSegmentationOutput as Output,
        )

        processor = self.processor()
        pixel_module, transformer = (
            self.model.model.pixel_level_module,
            self.model.model.transformer_module,
        )
        logits = [
            torch.tensor(np.asarray(x), device=self.settings.device) for x in inputs.predictions
        ]

        def instances(images: list[np.ndarray], classes: Any, masks: Any) -> list[np.ndarray]:
            results = processor.post_process_instance_segmentation(
                Output(class_queries_logits=classes.float(), masks_queries_logits=masks.float()),
                threshold=0.0,
                target_sizes=[image.shape[:2] for image in images],
                return_binary_maps=True,
            )
            return [result["segmentation"].cpu().numpy() for result in results]

        def segment() -> list[np.ndarray]:
            batch = processor(images=inputs.images, return_tensors="pt")
            pixel_values = batch["pixel_values"].to(self.settings.device, self.dtype)
            output = self.model(pixel_values=pixel_values)
            return instances(
                inputs.images, output.class_queries_logits, output.masks_queries_logits
            )

        calls = {
            "whole forward": self.network(inputs.pixel_values),
            "backbone": self.run(pixel_module.encoder, self.place(inputs.pixel_values)),
            "pixel decoder": self.run(
                pixel_module.decoder,
                [self.place(maps) for maps in inputs.features],
                output_hidden_states=False,
            ),
            "Transformer decoder": self.run(
                transformer,
                multi_scale_features=[self.place(maps) for maps in inputs.pyramid.features],
                mask_features=self.place(inputs.pyramid.per_pixel),
                output_hidden_states=True,
            ),
            "preprocessing": lambda: processor(images=inputs.larger, return_tensors="pt"),
            "post-processing": self.run(instances, inputs.larger, *logits),
            "image to instances": self.run(segment),
        }
        if self.settings.compiled:
            calls["whole forward, torch.compile"] = self.run(
                torch.compile(self.model), pixel_values=self.place(inputs.pixel_values)
            )
        return calls

    def peak_device_bytes(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated()


class ZeroModels(OnJax):
    """ZeroModels' Mask2Former in Keras on JAX, with random weights of its own."""

    def __init__(self, folder: Path, settings: Settings):  # noqa: ARG002 - as the other peers
        super().__init__(settings)
        os.environ["KERAS_BACKEND"] = "jax"
        keras: Any = importlib.import_module("keras")
        theirs: Any = importlib.import_module("zeromodels.models.mask2former")
        import jax

        keras.config.set_dtype_policy(settings.dtype)
        backbone: Any = settings.config.backbone
        config = theirs.Mask2FormerConfig(
            image_size=settings.size,
            backbone_embed_dim=backbone.embed_dim,
            backbone_depths=backbone.depths,
            backbone_num_heads=backbone.num_heads,
            backbone_window_size=backbone.window_size,
            num_queries=settings.config.decoder.num_queries,
            num_classes=settings.config.num_classes,
        )
        with jax.default_device(self.device):
            model = theirs.Mask2FormerUniversalSegment(config)
        variables = model.trainable_variables, model.non_trainable_variables
        self.weights = [[variable.value for variable in group] for group in variables]
        self.forward = jax.jit(lambda weights, x: model.stateless_call(*weights, x)[0])

    def network(self, pixel_values: np.ndarray) -> Call:
        return self.run(self.forward, self.weights, pixel_values)

    def calls(self, inputs: Inputs) -> dict[str, Call]:
        return {"whole forward": self.network(inputs.pixel_values)}


PEERS: Mapping[str, Callable[[Path, Settings], Any]] = {
    OURS: Ours,
    "transformers": Transformers,
    "zeromodels": ZeroModels,
}
