"""The teacher cache: what a frozen teacher computed, kept on disk and read again."""
