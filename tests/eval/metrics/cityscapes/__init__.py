"""Tests of instance AP by the rules of Cityscapes."""
