"""The parts of `m2f predict`: finding images, naming results, writing them, and their folder."""
