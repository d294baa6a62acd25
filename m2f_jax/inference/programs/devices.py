"""The devices of a segmenter: how arrays come there, and what is compiled for them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from m2f_jax.inference.programs.compiling import JittedProgram, Program
from m2f_jax.inference.programs.kept import PLATFORM, KeptProgram, is_ours
from m2f_jax.modeling.model import Model
from m2f_jax.modeling.parts import module_of

IMAGES = "images"  # the axis of devices


class Devices:
    """Devices that compute the same, each for its own images.

    Attributes:
        devices: the devices themselves.
        programs_folder: keeps what is compiled for them, if it can be kept.
    """

    def __init__(self, devices: Sequence[Any], programs_folder: Path | None):
        """Takes the devices, and the folder for programs or None."""
        self.devices, self.programs_folder = tuple(devices), programs_folder
        mesh = Mesh(np.array(self.devices), (IMAGES,))
        self._one_each = NamedSharding(mesh, PartitionSpec(IMAGES))
        self._everywhere = NamedSharding(mesh, PartitionSpec())

    @property
    def are_cpus(self) -> bool:
        """Whether all of them are processors."""
        return all(device.platform == "cpu" for device in self.devices)

    def share(self, parameters: Any) -> Any:
        """Puts parameters on all devices; of shapes, says that they will be there."""
        if any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(parameters)):
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._everywhere),
                parameters,
            )
        return jax.device_put(parameters, self._everywhere)

    def spread(self, *arrays: Any) -> list[Any]:
        """Puts arrays of images on the devices, an equal share on each."""
        return [jax.device_put(array, self._one_each) for array in arrays]

    def program(self, name: str, function: Callable, about: str | None) -> Program:
        """Returns a program that calls `function` on each device with its images.

        Args:
            name: of the program, in profiles and in the log of compilations.
            function: takes arrays that all devices share and arrays with an axis of images.
            about: all that it depends on besides its arguments and the source of this package; None
                if that isn't known.
        """

        def spread(shared: Any, *arrays: Any) -> Any:
            return jax.shard_map(
                function,
                mesh=self._one_each.mesh,
                in_specs=(PartitionSpec(), *[PartitionSpec(IMAGES)] * len(arrays)),
                out_specs=PartitionSpec(IMAGES),
                check_vma=False,
            )(shared, *arrays)

        spread.__name__ = name
        jitted, folder = jax.jit(spread), self.programs_folder
        if folder is None or about is None:
            return JittedProgram(jitted, self._one_each)
        return KeptProgram(jitted, folder, name, about, self._one_each)

    def share_of(self, arrays: Any, image: int, batch_size: int) -> Any:
        """Returns the share of one image on its device; on a CPU, as NumPy arrays.

        NumPy shares a CPU's memory, and slices without compiling a program.

        Args:
            arrays: what a program returned.
            image: its number in the batch of all devices.
            batch_size: images of each device.
        """
        device, place = divmod(image, batch_size)
        share = jax.tree.map(lambda x: x.addressable_shards[device].data, arrays)
        if self.devices[device].platform == "cpu":
            share = jax.tree.map(np.asarray, share)
        return jax.tree.map(lambda x: x[place], share)


def can_keep(model: Model, devices: Sequence[Any]) -> bool:
    """Returns whether programs of this model for these devices can be kept between runs.

    Another package's source isn't part of their keys, and kernels for a GPU can't be exported.
    """
    config = model.config
    parts = map(module_of, (config.backbone, config.pixel_decoder, config.decoder))
    ours = all(is_ours(kind) for kind in (type(model), *parts))
    return ours and [device.platform for device in devices] == [PLATFORM]
