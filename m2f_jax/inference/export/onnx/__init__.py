"""A model as an ONNX file: written from its jaxpr, and run by ONNX Runtime or OpenVINO."""
