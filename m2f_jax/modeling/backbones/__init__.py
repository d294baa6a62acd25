"""Backbones: images to feature maps at four strides."""
