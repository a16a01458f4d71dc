"""Examples: records, importers, checks, splits, statistics and offline synthesis."""
