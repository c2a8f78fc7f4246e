"""Tasks beside sentence vectors: what the runtime makes of the logits of a model's heads."""
