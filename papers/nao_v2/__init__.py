"""NAO-V2 (Balanced NAO): one-shot search with size-proportional sampling and an encoder-predictor-decoder."""
