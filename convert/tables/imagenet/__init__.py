"""Backbones trained on ImageNet, without a Mask2Former."""
