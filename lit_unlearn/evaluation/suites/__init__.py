"""The suites, one per file: the probes that a benchmark needs, and its figures."""
