"""An index's files: manifest, records for circuit-tracer, tables, and the pages' data."""
