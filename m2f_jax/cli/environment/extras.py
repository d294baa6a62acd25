"""Packages that only some commands need, and which extra of this package brings them."""

EXTRAS = {
    "av": "video",
    "gradio": "app",
    "grain": "train",
    "optax": "train",
    "orbax": "train",
    "tensorboardX": "train",
    "faster_coco_eval": "coco",
    "hotcoco": "coco",
    "google": "onnx",  # protobuf, which comes with onnx
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "onnx",
    "pyarrow": "ray",  # which ray[data] brings
    "ray": "ray",
}


def missing_extra(error: ImportError, command: str) -> str | None:
    """Returns what to install where a command lacks a package; None for other errors."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return f"m2f {command} needs {package}: pip install 'm2f-jax[{EXTRAS[package]}]'"
