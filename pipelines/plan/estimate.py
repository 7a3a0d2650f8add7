"""Estimates: hours, memory, bandwidth and price of a suite's steps on a device.

Owns the step from quantities to time: by a device's operations a second, or by the speed that short
runs on this machine measured (`measure`). Loads no weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..suite.members import SuiteMember, groups_of
from ..suite.model_shape import model_config
from ..suite.settings import SuiteFile
from .devices import Device
from .quantities import BITS, Quantities

TOKENS_PER_S = 5e5
"""Tokens a second of a tokenizer on a few cores; two cores of an AMD EPYC gave 1.1M with a small
vocabulary."""

UNITS = {"tokenize": "tokens", "harvest": "rows", "train": "rows", "evaluate": "flops"}
"""Step -> the quantity whose units a second are measured as its speed."""

WRITTEN_PER_S = 2e8
"""Bytes a second that a step writes into `out`; assumed."""

DAYS_PER_MONTH = 30.4


@dataclass(frozen=True)
class Prices:
    """Prices that the user gives, in any currency; 0 if not given.

    Attributes:
        gpu_hour: price of an hour of one device.
        tb_month: price of keeping a terabyte (10^12 bytes) for a month.
        days: days for which the activations are kept.
    """

    gpu_hour: float = 0.0
    tb_month: float = 0.0
    days: float = 30.0

    def storage(self, n_bytes: float) -> float:
        """Price of keeping `n_bytes` for `days`."""
        return n_bytes / 1e12 * self.tb_month * self.days / DAYS_PER_MONTH


@dataclass(frozen=True)
class Speed:
    """How fast steps are.

    Attributes:
        name: name of the device or machine.
        flops: operations a second.
        measured: step -> units (`UNITS`) a second, for steps that short runs have measured.
        fixed_s: step -> seconds that it takes however little work it has.
        device: the device that gives the time of an update; None for a measured machine.
    """

    name: str
    flops: float
    measured: Mapping[str, float] = field(default_factory=dict)
    fixed_s: Mapping[str, float] = field(default_factory=dict)
    device: Device | None = None

    @classmethod
    def of(cls, name: str, device: Device) -> "Speed":
        """The speed of a device, by the table of devices."""
        return cls(name, device.peak_flops * device.share, device=device)

    def seconds(self, q: Quantities) -> float:
        """Seconds of one step on one device."""
        fixed = self.fixed_s.get(q.step, 0.0)
        if q.step in self.measured:
            return fixed + getattr(q, UNITS[q.step]) / self.measured[q.step]
        if q.step == "tokenize":
            return fixed + q.tokens / TOKENS_PER_S
        if q.step == "train" and self.device is not None:
            return sum(
                self.device.train_seconds(one.n, one.flops, one.sparse_flops) for one in q.updates
            )
        return fixed + max(q.flops / self.flops, q.written.get("out", 0.0) / WRITTEN_PER_S)


@dataclass(frozen=True)
class BreakEven:
    """The cost of harvesting once against that of regenerating activations for every sweep.

    Attributes:
        saes: number of SAEs from which harvesting once costs less; None if a pass costs nothing.
        together: SAEs that are trained on one regeneration.
        regenerate: cost of one pass of the model over all rows: a price, or hours without prices.
        keep: cost of keeping the activations, in the same unit.
    """

    saes: int | None
    together: int
    regenerate: float
    keep: float


def break_even(
    found: Sequence[Quantities], speed: Speed, rates: Prices, members: Sequence[SuiteMember]
) -> BreakEven:
    """The number of SAEs from which harvesting once costs less than regenerating.

    A trainer that regenerates pays one forward pass for every group that it trains at once.
    Harvesting pays one pass and the storage. With S SAEs in groups of g, the costs are ⌈S/g⌉·pass
    and pass + storage.
    """
    harvest = next(q for q in found if q.step == "harvest")
    hours = speed.seconds(harvest) / 3600
    price = rates.gpu_hour
    pass_cost = hours * price if price else hours
    keep = rates.storage(sum(harvest.written.values())) if price else 0.0
    together = max(len(group) for group in groups_of(members))
    if pass_cost <= 0:
        return BreakEven(None, together, pass_cost, keep)
    groups = 1 + keep / pass_cost
    return BreakEven(int(groups) * together + 1, together, pass_cost, keep)


def model_bytes(file: SuiteFile) -> float:
    """Bytes of the language model's weights in bfloat16, computed from its shape."""
    config = model_config(file.suite.model)
    heads = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * keys + 3 * config.intermediate_size)
    return 2.0 * (config.vocab_size * config.hidden_size + config.num_hidden_layers * layer)


def read_bytes_per_s(found: Sequence[Quantities], speed: Speed) -> float:
    """Bytes a second that training at this speed reads from the store, on one device."""
    train = next(q for q in found if q.step == "train")
    return train.read_bytes / max(speed.seconds(train), 1e-9)


def by_codec(found: Sequence[Quantities]) -> dict[str, float]:
    """Codec -> bytes of all activations, without labels."""
    values = sum(q.float32_bytes for q in found) / 4
    return {
        "float32, raw (the report)": 4 * values,
        "bfloat16, raw": 2 * values,
        "exact": values * BITS["exact"] / 8,
    }
