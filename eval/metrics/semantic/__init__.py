"""Semantic IoU and iIoU, by the rules of Cityscapes."""
