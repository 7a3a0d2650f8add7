"""Runs an evaluation: which SAEs are measured together, in which passes, here or on workers."""

from .evaluation import evaluate_saes, evaluation_of, write_evaluation
from .measuring import SUBSET_FIGURES, evaluate_many

__all__ = ["SUBSET_FIGURES", "evaluate_many", "evaluate_saes", "evaluation_of", "write_evaluation"]
