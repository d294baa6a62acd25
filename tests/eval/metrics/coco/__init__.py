"""Tests of mask AP by the rules of COCO, LVIS and YouTubeVIS."""
