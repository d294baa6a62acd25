"""Panoptic quality, by the rules that COCO and Cityscapes share."""
