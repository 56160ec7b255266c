"""Algebra on exported graphs: the same answers from less work, each step a pass of its own.

requires -> call -> ensures: every pass says in its docstring what it looks for and what it guarantees, and leaves
alone what it does not recognise. `optimise` runs the exact ones in order. Needs onnx, not torch.
"""

from edge_ad.algebra.optimise import EXACT_PASSES, PassRow, optimise
from edge_ad.algebra.work import Work, macs_by_node, total_macs, work_by_node

__all__ = ["EXACT_PASSES", "PassRow", "Work", "macs_by_node", "optimise", "total_macs", "work_by_node"]
