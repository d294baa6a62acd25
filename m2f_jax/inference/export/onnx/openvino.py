"""OpenVINO, which tells nobody that it is used here."""

import importlib
import sys
from types import ModuleType
from typing import Any

TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Imports OpenVINO, whose import otherwise sends a message to its makers.

    For that, it also forks, which JAX warns of. Where its package for messages can't be imported,
    it sends none; so that package is hidden during the import. OpenVINO remains as it was if
    somebody else has imported it.

    Returns:
        The module `openvino`.

    Raises:
        ImportError: it isn't installed.
    """
    hidden = TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = ModuleType(TELEMETRY)  # empty, with nothing to import from
    try:
        return importlib.import_module("openvino")
    finally:
        if hidden:
            del sys.modules[TELEMETRY]
