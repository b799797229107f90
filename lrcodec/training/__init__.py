"""Makes model packs from images. Imports torch and onnx."""
