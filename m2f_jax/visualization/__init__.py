"""Segmentations drawn over their images: painting, colors, and the placement of labels."""
