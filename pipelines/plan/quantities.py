"""Quantities: rows, tokens, bytes and floating-point operations of a suite's steps.

Owns the arithmetic, which needs no text, no weights and no device. `estimate` turns quantities into
time, memory and price.
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
"""Codec -> bits of a value on disk (docs/store.md). For float32 this is the most: rows of a
bfloat16 model take 11."""

LABEL_BYTES = 4.0
"""Bytes of a row's token, sequence and position, compressed."""

CHARACTERS_PER_TOKEN = 3.5
ASSUMED_L0 = 100.0
"""Active latents of an SAE without target_l0: about as many as in Gemma Scope's canonical SAEs."""

INDEX_BYTES = 10_000.0
"""Bytes of a latent in an index: its snippets, tables and pages (docs/latents.md)."""

FILLED = 0.5
"""Share of a sequence that is not padding if each document is padded on its own; assumed."""

SPARSE_FLOPS = 8.0
"""Operations of an active latent for each value of a row: decoding, gradients, Adam."""


@dataclass(frozen=True)
class Updates:
    """All updates of one SAE.

    Attributes:
        n: number of updates.
        flops: operations of all updates.
        sparse_flops: how many of these are for active latents.
    """

    n: float
    flops: float
    sparse_flops: float


@dataclass
class Quantities:
    """What one step does.

    Attributes:
        step: name of the step.
        tokens: tokens that are read.
        rows: rows that are made or read, repeats included.
        flops: floating-point operations.
        report_flops: floating-point operations with dense updates, as in the Gemma Scope report.
        updates: updates of each SAE.
        written: place (tokens, stores, checkpoints, out) -> bytes on disk after the step.
        float32_bytes: bytes of the step's rows as raw float32, as the report stores them.
        read_bytes: bytes read from the store, repeats included.
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
    """The quantities of a suite's steps, in their order.

    Args:
        file: the suite.
        text_bytes: bytes of all text; None if not known: the rows then give the tokens.

    Raises:
        ValueError: the number of rows is neither given nor computable.
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
    """Quantities of indexing: one encoder product over the rows, which are read twice."""
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
    """(number of updates, rows of each)."""
    fields = TrainSettings.model_fields
    steps, batch = (member.values.get(name, fields[name].default) for name in ("steps", "batch"))
    return steps, batch


def step_flops(member: SuiteMember, config: Any) -> tuple[float, float]:
    """(operations of one update here, operations of one dense update).

    n is the mean of d_in and d_out, M the number of latents, B the batch in rows.
    """
    d_in, d_out = widths(member, config)
    n, width, batch = (d_in + d_out) / 2, member.values["width"], steps_and_batch(member)[1]
    # Here: one dense encoder product, 2·d_in·M·B, and the work of active latents.
    own = 2.0 * d_in * width * batch + sparse_step_flops(member, config)
    # Dense: 12·n·M·B, encoder and decoder, forward and backward (Gemma Scope, section 3.3).
    return own, 12.0 * n * width * batch


def sparse_step_flops(member: SuiteMember, config: Any) -> float:
    """Operations of one update for active latents: 8·n·L0·B."""
    l0 = min(member.values["width"], member.values.get("target_l0") or ASSUMED_L0)
    n = sum(widths(member, config)) / 2
    return SPARSE_FLOPS * n * l0 * steps_and_batch(member)[1]


def _context(file: SuiteFile) -> int:
    return file.suite.text.get("context", 1024)


def _rows_per_token(file: SuiteFile) -> float:
    """Rows for each token of a sequence: BOS and padding give none; other special tokens are few
    and not counted."""
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
    """Quantities of tokenizing: the text up to `tokens`, and the held-out part."""
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
    """Quantities of harvesting: one forward pass for each table, up to its last site."""
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
    """Quantities of training: all updates of all SAEs. A group that is trained at once reads its
    stream once."""
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
    """Bytes that a group reads: the rows of its longest member, at the sites that all share."""
    pairs = zip(group[0].sites, group[0].harvests, strict=True)
    bits = sum(site_width(site, config) * _bits(file, number) for site, number in pairs)
    return max(member.rows for member in group) * bits / 8


def _bits(file: SuiteFile, number: int) -> float:
    """Bits of a value in the stores of one `[[harvest]]` table.

    Raises:
        ValueError: there is no codec of the given name.
    """
    codec = file.suite.harvest[number].get("codec", "exact")
    if codec not in BITS:
        raise ValueError(
            f"suite {file.path}, [[harvest]] {number + 1}: codec must be one of {', '.join(BITS)}, "
            f"got {codec!r}"
        )
    return BITS[codec]


def _evaluate(file: SuiteFile, members: list[SuiteMember], config: Any, context: int) -> Quantities:
    """Quantities of evaluating, in passes: one for the mean, a clean one, two for each site's
    ablations, one for each SAE."""
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
