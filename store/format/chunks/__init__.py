"""From rows to the bytes of a chunk and back.

`codecs` has the presets, `blosc_frames` encodes, `decoding` and `zstd` decode within bounds,
`shard_index` finds a chunk in its shard.
"""
