"""Teachers: where target logits come from."""
