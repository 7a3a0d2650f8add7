"""Quantities: rows, tokens, bytes and floating-point operations of a suite's steps.

Owns the arithmetic, which needs no text, no weights and no device. Time, memory and price are made
of it by `estimate`.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from ...harvest.model.families import family_of
from ...harvest.model.sites import Site, site_width
from ...train.settings import TrainSettings
from ..suite.latents import indexed
from ..suite.members import SuiteMember, groups_of, harvest_sites, members_of
from ..suite.model_shape import model_config
from ..suite.settings import SuiteFile

BITS = {"exact": 11.0, "fast": 16.0, "int8": 7.5, "float32": 32.0}
"""Bits of a value on the disk by codec (docs/store.md); of float32 at most: a bfloat16 model's rows
take 11."""

LABEL_BYTES = 4.0
"""Token, sequence and position of a row, as they compress."""

CHARACTERS_PER_TOKEN = 3.5
ASSUMED_L0 = 100.0
"""Active latents of an SAE whose L0 nobody has asked for: the canonical SAEs'."""

INDEX_BYTES = 10_000.0
"""Of a latent in an index: its snippets, tables and pages (docs/latents.md)."""

FILLED = 0.5
"""Share of a sequence that is no padding where every document stands alone; assumed."""

SPARSE_FLOPS = 8.0
"""Operations of an active latent for each of a row's values: decoding, gradients, Adam."""


@dataclass(frozen=True)
class Updates:
    """All updates of one SAE.

    Attributes:
        n: how many.
        flops: of all of them.
        sparse_flops: those among them that active latents need.
    """

    n: float
    flops: float
    sparse_flops: float


@dataclass
class Quantities:
    """What one step does.

    Attributes:
        tokens: that are read.
        rows: that are made or read, with repeats.
        flops: floating-point operations.
        report_flops: those of the report's way: dense steps.
        updates: of every SAE.
        written: place (tokens, stores, checkpoints, out) -> bytes on the disk afterwards.
        float32_bytes: of the step's rows as the report stores them: raw float32.
        read_bytes: from the store, with repeats.
    """

    step: str
    tokens: float = 0.0
    rows: float = 0.0
    flops: float = 0.0
    report_flops: float = 0.0
    updates: list[Updates] = field(default_factory=list)
    written: dict[str, float] = field(default_factory=dict)
    float32_bytes: float = 0.0
    read_bytes: float = 0.0


def quantities(file: SuiteFile, text_bytes: int | None = None) -> list[Quantities]:
    """The steps of a suite in their order.

    Args:
        file: the suite.
        text_bytes: of all text, where it is at hand; else the tokens are those that the rows need.

    Raises:
        ValueError: nothing says how many rows there will be.
    """
    members, config = members_of(file), model_config(file.suite.model)
    sites = harvest_sites(file, {site for member in members for site in member.sites})
    rows = [_rows(file, i, text_bytes) for i in range(len(sites))]
    context = _context(file)
    harvested = max(rows) / _rows_per_token(file)
    found = [_tokenize(file, config, text_bytes, harvested)]
    found.append(_harvest(file, config, sites, rows, context))
    found.append(_train(file, members, config))
    found.append(_evaluate(file, members, config, context))
    release = Quantities("release")
    release.written["out"] = sum(weight_bytes(m, config) for m in members)
    release.written["out"] *= len(file.suite.release.formats)
    found += [release, Quantities("report")]
    if file.suite.latents is not None:
        found.append(_latents(file, indexed(file, members), config))
    return found


def _latents(file: SuiteFile, members: list[SuiteMember], config: Any) -> Quantities:
    """One encoder product over an index's rows, which are read twice."""
    found = Quantities("latents")
    for member in members:
        rows = min(float((file.suite.latents or {}).get("rows", math.inf)), float(member.rows))
        d_in, width = widths(member, config)[0], member.values["width"]
        found.rows += rows
        found.flops += 2.0 * rows * d_in * width
        found.read_bytes += 2 * rows * d_in * _bits(file, member.harvests[0]) / 8
        found.written["out"] = found.written.get("out", 0.0) + INDEX_BYTES * width
    found.report_flops = found.flops
    return found


def weight_bytes(member: SuiteMember, config: Any) -> float:
    """Bytes of an SAE's float32 tensors."""
    d_in, d_out = widths(member, config)
    return 4.0 * (member.values["width"] * (d_in + d_out + 2) + d_out)


def widths(member: SuiteMember, config: Any) -> tuple[int, int]:
    """(d_in, d_out) of an SAE."""
    found = [site_width(site, config) for site in member.sites]
    return found[0], found[-1]


def steps_and_batch(member: SuiteMember) -> tuple[int, int]:
    """Updates, and rows of each."""
    fields = TrainSettings.model_fields
    steps, batch = (member.values.get(name, fields[name].default) for name in ("steps", "batch"))
    return steps, batch


def step_flops(member: SuiteMember, config: Any) -> tuple[float, float]:
    """Operations of one update: here, and as dense products.

    Dense: 12·n·M·B (encoder and decoder, forward and backward; Gemma Scope report, Section 3.3).
    Here: one dense encoder product 2·n·M·B, and what only active latents need.
    """
    d_in, d_out = widths(member, config)
    n, width, batch = (d_in + d_out) / 2, member.values["width"], steps_and_batch(member)[1]
    own = 2.0 * d_in * width * batch + sparse_step_flops(member, config)
    return own, 12.0 * n * width * batch


def sparse_step_flops(member: SuiteMember, config: Any) -> float:
    """Operations of one update that active latents need: 8·n·L0·B."""
    l0 = min(member.values["width"], member.values.get("target_l0") or ASSUMED_L0)
    n = sum(widths(member, config)) / 2
    return SPARSE_FLOPS * n * l0 * steps_and_batch(member)[1]


def _context(file: SuiteFile) -> int:
    return file.suite.text.get("context", 1024)


def _rows_per_token(file: SuiteFile) -> float:
    """Rows of a sequence's position: BOS gives none, nor does the padding of documents that stand
    alone; the other special tokens are few."""
    context = _context(file)
    filled = 1.0 if file.suite.text.get("packing", "concatenate") == "concatenate" else FILLED
    return filled * (context - 1) / context


def _rows(file: SuiteFile, number: int, text_bytes: int | None) -> float:
    """Rows of one `[[harvest]]` table."""
    rows = file.suite.harvest[number].get("rows")
    if rows is not None:
        return float(rows)
    text = file.suite.text
    tokens = text.get("tokens")
    if tokens is None and text_bytes is not None:
        tokens = text_bytes / CHARACTERS_PER_TOKEN * (1 - text.get("held_out", 0.05))
    if tokens is None:
        raise ValueError(
            f"suite {file.path}, [[harvest]] {number + 1}: rows must be given to plan before the "
            "text is at hand; or give tokens in [text]"
        )
    return float(tokens) * _rows_per_token(file)


def _tokenize(file: SuiteFile, config: Any, text_bytes: int | None, harvested: float) -> Quantities:
    """All text up to the budget, and the held-out part."""
    if file.text_table.store is not None:
        return Quantities("tokenize")
    wanted = file.suite.text.get("tokens")
    held_out = 1 + file.suite.text.get("held_out", 0.05)
    tokens = (harvested if wanted is None else float(wanted)) * held_out
    if wanted is None and text_bytes is not None:
        tokens = text_bytes / CHARACTERS_PER_TOKEN
    bits = math.ceil(math.log2(config.vocab_size))
    return Quantities("tokenize", tokens=tokens, written={"tokens": tokens * bits / 8})


def _harvest(
    file: SuiteFile, config: Any, sites: list[list[Site]], rows: list[float], context: int
) -> Quantities:
    """One forward pass a table, as far as its last site."""
    found = Quantities("harvest")
    for number, (those, n) in enumerate(zip(sites, rows, strict=True)):
        if not those:
            continue
        values = n * sum(site_width(site, config) for site in those)
        last = max(those, key=lambda site: site.depth)
        tokens = n / _rows_per_token(file)
        per_token = family_of(config).flops_per_token(config, context, last.layer, last.kind)
        found.tokens += tokens
        found.rows += n
        found.flops += tokens * per_token
        found.float32_bytes += 4.0 * values
        stored = values * _bits(file, number) / 8 + n * LABEL_BYTES
        found.written["stores"] = found.written.get("stores", 0.0) + stored
    found.report_flops = found.flops
    return found


def _train(file: SuiteFile, members: list[SuiteMember], config: Any) -> Quantities:
    """Every update of every SAE; a stream is read once for a group that is trained at once."""
    found = Quantities("train")
    for member in members:
        steps, batch = steps_and_batch(member)
        own, dense = step_flops(member, config)
        found.rows += steps * batch
        found.flops += steps * own
        found.report_flops += steps * dense
        sparse = steps * sparse_step_flops(member, config)
        found.updates.append(Updates(steps, steps * own, sparse))
        saved = weight_bytes(member, config)
        kept = member.values.get("keep_checkpoints", 2)
        found.written["out"] = found.written.get("out", 0.0) + saved
        where = "out" if file.suite.checkpoints is None else "checkpoints"
        found.written[where] = found.written.get(where, 0.0) + kept * 2 * saved
    found.read_bytes = sum(_stream_bytes(file, group, config) for group in groups_of(members))
    return found


def _stream_bytes(file: SuiteFile, group: list[SuiteMember], config: Any) -> float:
    """Bytes that a group reads: its longest member's rows at the sites that all of them share."""
    pairs = zip(group[0].sites, group[0].harvests, strict=True)
    bits = sum(site_width(site, config) * _bits(file, number) for site, number in pairs)
    return max(member.rows for member in group) * bits / 8


def _bits(file: SuiteFile, number: int) -> float:
    """Bits of a value in the stores of one `[[harvest]]` table.

    Raises:
        ValueError: no codec has the name that the table gives.
    """
    codec = file.suite.harvest[number].get("codec", "exact")
    if codec not in BITS:
        raise ValueError(
            f"suite {file.path}, [[harvest]] {number + 1}: codec must be one of {', '.join(BITS)}, "
            f"got {codec!r}"
        )
    return BITS[codec]


def _evaluate(file: SuiteFile, members: list[SuiteMember], config: Any, context: int) -> Quantities:
    """A partial pass for the mean, a clean one, one a site ablated twice, and one an SAE."""
    asked = file.suite.evaluate.get("n_sequences", 2048)
    tokens, layers = float(asked * context), config.num_hidden_layers
    family = family_of(config)
    whole = family.flops_per_token(config, context, layers - 1, "resid_post")
    whole += 2.0 * config.hidden_size * config.vocab_size
    targets = {member.sites[-1] for member in members}
    passes = 2 + 2 * len(targets) + len(members)
    flops = tokens * whole * passes
    for member in members:
        d_in, d_out = widths(member, config)
        flops += tokens * 2.0 * (d_in + d_out) * member.values["width"]
    return Quantities("evaluate", tokens=tokens, flops=flops, report_flops=flops)
