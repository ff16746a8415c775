"""The suites, one file each: which probes a benchmark needs, and what its figures are."""
