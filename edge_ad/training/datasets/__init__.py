"""Data sets as their owners lay them out. `edge_ad.training.dataset` is the door."""
