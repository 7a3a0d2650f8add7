"""What the bytes of a store mean: the code of docs/format.md.

`spec` and `root` describe a store, `commits` its buckets, `arrays` its shards, `chunks` the bytes
of a chunk. `values` and `sums` compute the stored numbers, `permutations` their order.
"""
