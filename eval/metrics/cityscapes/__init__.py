"""Instance AP by the rules of Cityscapes, from tables of shared pixels."""
