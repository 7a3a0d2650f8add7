"""From rows to the bytes of a chunk and back.

`codecs` has the presets, `blosc_frames` encodes, `decoding` decodes after checking every field,
`zstd` calls the zstd library, `shard_index` finds a chunk in its shard.
"""
