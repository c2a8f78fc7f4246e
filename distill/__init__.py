"""The workshop's first bench: from a BERT teacher and text to a compact student encoder."""
