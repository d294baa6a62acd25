"""Tables of names: which tensor of a checkpoint is which of ours, for every part and origin."""
