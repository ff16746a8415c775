"""Teacher cache: hidden states of a frozen teacher, stored on disk and read again."""
