"""Mask AP by the rules of COCO, computed by its official tool."""
