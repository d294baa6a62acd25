"""`m2f info`."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.table import Table

from m2f_jax.cli.arguments import Info
from m2f_jax.cli.commands.models import origin_of
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.config import (
    FPNPixelDecoderConfig,
    MaskFormerConfig,
    MaskFormerDecoderConfig,
    MaskFormerPixelDecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    ResNetConfig,
    SwinConfig,
    TransformerDecoderConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.inference.export.exported_file import is_exported, read_program
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.modeling.model import forward
from m2f_jax.modeling.parameters import abstract_model, trained_shapes
from m2f_jax.plain import to_plain, type_of
from m2f_jax.presets import DATA_SETS, HUB_PREFIX, PRESETS, Preset, name_of
from m2f_jax.pretrained import load

MEBI = 2**20


def run(command: Info) -> int:
    """Prints the facts of a model, as a table or as JSON."""
    if is_exported(command.source):
        if command.memory is not None:
            raise ValueError(
                f"{command.source} is an exported model; --memory is for the model it was made of"
            )
        return tell(command, describe_exported(Path(command.source)), {})
    preset = unfetched(command)
    if preset is not None:
        config, processor = preset.config, ImageProcessor.for_model(preset.config)
    else:
        opened = load(command.source, labels=command.labels, revision=command.revision)
        config, processor = opened.config, opened.processor
        name = name_of(command.source)
        if name is not None and PRESETS[name].config == config:
            preset = PRESETS[name]
    facts = describe(config, processor)
    if preset is not None:
        facts |= {"data set": DATA_SETS[preset.data_set].title, **origin_of(preset)}
    if command.memory is not None:
        facts["compiled"] = measure(config, command.memory)
    return tell(command, facts, {"config": config.to_dict()})


def unfetched(command: Info) -> Preset | None:
    """Returns the published model whose name, hub id or file's name is the source, or else None.

    Its facts are known without its file. A file or folder of that name is read instead.
    """
    name = name_of(command.source)
    if name is None or command.labels or command.revision or Path(command.source).exists():
        return None
    preset = PRESETS[name]
    is_its = command.source in (name, HUB_PREFIX + name, preset.hub, preset.file)
    return preset if is_its else None


def tell(command: Info, facts: dict[str, Any], more: dict[str, Any]) -> int:
    """Prints the facts, for people or as JSON; `more` is in the JSON only."""
    if command.json:
        print(json.dumps({**more, **facts}, indent=2))
    else:
        show(command.source, facts)
    return 0


def describe_exported(path: Path) -> dict[str, Any]:
    """Returns the facts of an exported model by name, as plain JSON values."""
    header = read_program(path).header
    return {
        "task": header.task,
        "image": list(header.size),
        "platforms": list(header.platforms),
        "computes in": header.dtype,
        "exported with": f"jax {header.jax_version}",
        "classes": [label.name for label in header.labels],
        "things": sum(label.is_thing for label in header.labels),
    }


def describe(config: ModelConfig, processor: ImageProcessor) -> dict[str, Any]:
    """Returns the facts of a model by name, as plain JSON values."""
    sizes = {name: math.prod(shape) for name, shape in trained_shapes(config).items()}
    stages = {"backbone": 0, "pixel_decoder": 0, "decoder": 0}
    for name, size in sizes.items():
        stages[name.split(".")[0]] += size
    total = sum(sizes.values())
    tasks = {
        "instance": ["instance"],
        "semantic": ["semantic"],
        "panoptic": ["panoptic", "instance", "semantic"],
    }
    can_do = tasks[config.task]
    if isinstance(config, MaskFormerConfig) and config.task == "panoptic":
        can_do.remove("instance")  # for which it has no inference
    return {
        "architecture": type_of(config),
        "task": config.task,
        "can do": can_do,
        "backbone": describe_part(config.backbone),
        "pixel decoder": describe_part(config.pixel_decoder),
        "Transformer decoder": describe_part(config.decoder),
        "parameters": {"all": total, **stages},
        "weights (MiB)": {
            "float32": round(4 * total / MEBI, 1),
            "bfloat16": round(2 * total / MEBI, 1),
        },
        "input size": {
            "shortest_edge": processor.shortest_edge,
            "longest_edge": processor.longest_edge,
            "multiple_of": processor.size_divisor,
        },
        "classes": [f"{label.name}" for label in config.labels],
        "things": len(config.thing_classes),
    }


def describe_part(cfg: Any) -> str:
    """Returns the kind and the sizes of a part, for people."""
    match cfg:
        case SwinConfig():
            return (
                f"Swin, width {cfg.embed_dim}, depths {cfg.depths}, heads {cfg.num_heads}, "
                f"window {cfg.window_size}"
            )
        case ResNetConfig():
            stem = ", DeepLab's stem" if cfg.deeplab else ""
            return f"ResNet-{3 * sum(cfg.depths) + 2}, width {cfg.dim}, depths {cfg.depths}{stem}"
        case PixelDecoderConfig():
            return f"{cfg.num_layers} deformable layers, width {cfg.dim}"
        case FPNPixelDecoderConfig():
            return f"FPN, width {cfg.dim}"
        case MaskFormerPixelDecoderConfig():
            encoder = f"{cfg.encoder_layers} encoder layers and " if cfg.encoder_layers else ""
            return f"{encoder}FPN, width {cfg.fpn_dim}, queries' map {cfg.dim}"
        case MaskFormerDecoderConfig():
            return (
                f"{cfg.num_layers} layers of plain cross-attention, {cfg.num_queries} queries, "
                f"width {cfg.dim}"
            )
        case TransformerDecoderConfig():
            attention = "" if cfg.masked else ", plain cross-attention"
            sizes = f"{cfg.num_layers} layers, {cfg.num_queries} queries, width {cfg.dim}"
            return sizes + attention
    return ", ".join(f"{name} {value}" for name, value in to_plain(cfg).items())


def measure(config: ModelConfig, size: tuple[int, int]) -> dict[str, Any]:
    """Returns the memory that XLA plans for an image or two frames, on this device in float32."""
    model = abstract_model(config)
    clip = (2,) if isinstance(config, VideoMask2FormerConfig) else ()
    image = jax.ShapeDtypeStruct((1, *clip, *size, 3), np.float32)
    memory = forward.lower(model, image, all_layers=False).compile().memory_analysis()
    if memory is None:
        raise ValueError(f"XLA reports no memory figures on {jax.default_backend()}")
    return {
        "device": jax.devices()[0].device_kind,
        "clip" if clip else "image": [*clip, *size],
        "arguments (MiB)": round(memory.argument_size_in_bytes / MEBI, 1),
        "temporaries (MiB)": round(memory.temp_size_in_bytes / MEBI, 1),
        "results (MiB)": round(memory.output_size_in_bytes / MEBI, 1),
    }


def show(source: str, facts: dict[str, Any]):
    """Prints the facts for people."""
    table = Table(title=source, show_header=False, title_justify="left", box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {as_text(part)}" for key, part in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        table.add_row(name, as_text(value))
    terminal(errors=False).print(table, soft_wrap=False)


def as_text(value: Any) -> str:
    """Returns a value as text: large numbers with separators, None as "native"."""
    return f"{value:,}" if isinstance(value, int) else "native" if value is None else str(value)
