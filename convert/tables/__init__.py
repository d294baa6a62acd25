"""Tables of names: which tensor of a known kind of checkpoint is which of ours."""
