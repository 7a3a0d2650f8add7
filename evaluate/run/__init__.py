"""A run: which SAEs are measured together, in what passes, and by whom."""

from .evaluation import evaluate_saes, evaluation_of, write_evaluation
from .measuring import SUBSET_FIGURES, evaluate_many

__all__ = ["SUBSET_FIGURES", "evaluate_many", "evaluate_saes", "evaluation_of", "write_evaluation"]
