"""The machinery of studies: what one says of itself, its statistics, the files it leaves."""
