"""The workshop's second bench: export to ONNX and OpenVINO, calibrated int8, and the gate that proves it."""
