"""Programs that are kept between runs as `jax.export` writes them, which spares tracing.

JAX's own cache keeps what XLA made of a program, but to find it there, the program has to be traced
and lowered first: for a network, a second or two of Python. Here, what was lowered is kept as well,
under a key of all that it depends on: the versions of Python and the libraries, the source of this
package, JAX's settings, what is computed, and the shapes of all arguments.

A file holds a digest of its key and its program, and then the program as StableHLO. Nothing of it
is parsed unless the digest is right; otherwise the program is traced and the file written anew.
Whenever one is written, those that no run has read for `UNREAD` are removed.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export

from m2f_jax.files import replacing
from m2f_jax.inference import postprocess
from m2f_jax.inference.programs.compiling import compilers
from m2f_jax.structures import FeaturePyramid, Predictions

logger = logging.getLogger("m2f_jax")

PACKAGE = Path(__file__).parents[2]
LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "einops")
DIGEST_SIZE = 32  # bytes
NAME = re.compile(r"\w+-[0-9a-f]{64}")  # of a file
UNREAD = 90 * 24 * 60 * 60  # seconds
PLATFORM = "cpu"  # the kernels of others can't be exported

for kind in (FeaturePyramid, Predictions, postprocess.Instances, postprocess.Panoptic):
    jax.export.register_namedtuple_serialization(kind, serialized_name=f"m2f_jax.{kind.__name__}")


@functools.cache
def software() -> str:
    """Returns the versions of Python and the libraries, and a digest of this package's sources."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return repr((sys.version, versions, digest.hexdigest()))


def settings() -> str:
    """Returns all of JAX's settings except its cache's: some change what is traced."""
    return repr(
        [
            (name, getattr(jax.config, name, value))  # that of a `with` block, if one is open
            for name, value in sorted(jax.config.values.items())
            if "cache" not in name
        ]
    )


class Signature(NamedTuple):
    """The arguments of a program: their structure, and the shape and dtype of each array."""

    structure: Any
    arrays: tuple[tuple[tuple[int, ...], Any], ...]


class Ready(NamedTuple):
    """A program for one signature: what it returns, and the program, once it is compiled."""

    returned: Any  # `jax.ShapeDtypeStruct`s
    compiled: "Future[jax.stages.Compiled]"


class KeptProgram:
    """A jitted function of arrays on one CPU, whose programs are kept in a folder.

    JAX's settings are taken as they are when a program is first needed.
    """

    def __init__(
        self, function: jax.stages.Wrapped, folder: Path, name: str, about: str, sharding: Any
    ):
        """Takes a function and the place of its programs.

        Args:
            function: what is compiled. It returns an array or a tuple of them, a `FeaturePyramid`,
                `Predictions`, `Instances` or `Panoptic`.
            folder: of all kept programs; it is made when the first one is written.
            name: of the program, in profiles, in the log of compilations and in file names.
            about: all that the function depends on besides its arguments and its source.
            sharding: of all that it returns.
        """
        self.function, self.folder, self.name, self.about = function, folder, name, about
        self.sharding = sharding
        self._ready: dict[Signature, Ready] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Runs the program, once it is compiled."""
        leaves, structure = jax.tree.flatten(arguments)
        return self._of(leaves, structure).compiled.result()(*leaves)

    def ahead(self, *arguments: Any) -> Any:
        """Begins to compile, see `Program`."""
        return self._of(*jax.tree.flatten(arguments)).returned

    def _of(self, leaves: list[Any], structure: Any) -> Ready:
        signature = Signature(structure, tuple((x.shape, x.dtype) for x in leaves))
        if signature not in self._ready:
            self._ready[signature] = self._prepare(signature, leaves)
        return self._ready[signature]

    def _prepare(self, signature: Signature, leaves: list[Any]) -> Ready:
        """Reads or traces a program, and begins to compile it."""
        exported = self._exported(signature, leaves)

        def call(*leaves: Any) -> Any:
            return exported.call(*leaves)

        call.__name__ = self.name
        returned = [
            jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding)
            for x in exported.out_avals
        ]
        lowered = jax.jit(call).lower(*leaves)
        return Ready(
            jax.tree.unflatten(exported.out_tree, returned), compilers.submit(lowered.compile)
        )

    def _exported(self, signature: Signature, leaves: list[Any]) -> jax.export.Exported:
        """Reads the program from the folder, or traces it and writes it there."""
        about = self.name, self.about, signature, settings(), software()
        key = hashlib.sha256(repr(about).encode()).digest()
        path = self.folder / f"{self.name}-{key.hex()}"
        exported = read(path, key)
        if exported is None:
            exported = self._export(signature.structure, leaves)
            write(path, key, exported)
        return exported

    def _export(self, structure: Any, leaves: list[Any]) -> jax.export.Exported:
        def flat(*leaves: Any) -> Any:  # since parameters lie in structures that aren't written
            return self.function(*jax.tree.unflatten(structure, leaves))

        return jax.export.export(jax.jit(flat), platforms=(PLATFORM,))(*leaves)


def read(path: Path, key: bytes) -> jax.export.Exported | None:
    """Reads a kept program; returns None if it isn't there, is damaged, or has another key."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):  # of another user
        os.utime(path)  # it was read now
    digest, program = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if digest != hashlib.sha256(key + program).digest():
        return None
    return jax.export.deserialize(bytearray(program))


def write(path: Path, key: bytes, exported: jax.export.Exported):
    """Writes a program; if that fails, logs a warning, and the next run traces it again."""
    program = exported.serialize()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            unfinished.write_bytes(hashlib.sha256(key + program).digest() + program)
        remove_unread(path.parent)
    except OSError as error:
        logger.warning("a program can't be kept for the next run: %s", error)


def remove_unread(folder: Path):
    """Removes the programs that weren't read or written for `UNREAD`, such as earlier versions'."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # of another user, or removed by another process
            if NAME.fullmatch(path.name) and path.stat().st_mtime < time.time() - UNREAD:
                path.unlink()


def is_ours(function: Callable[..., Any]) -> bool:
    """Returns whether a function or class is of this package, whose source is part of every key."""
    return function.__module__.partition(".")[0] == __name__.partition(".")[0]
