"""The table of scorers that ask a language model; `unigrams` asks none."""

from .detection import Detection
from .fuzzing import Fuzzing
from .scorer import Scorer
from .simulation import Simulation

TOKENS = "tokens"
"""Name of the scorer in `unigrams`."""

SCORERS: dict[str, type[Scorer]] = {
    "detection": Detection,
    "fuzzing": Fuzzing,
    "simulation": Simulation,
}
