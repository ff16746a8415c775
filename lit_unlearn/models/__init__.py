"""Models: loading, the tiny and the fetched one, teachers."""
