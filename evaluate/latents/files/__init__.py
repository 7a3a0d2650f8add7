"""The folder of an index: manifest, features for circuit-tracer, tables, data of the pages."""
