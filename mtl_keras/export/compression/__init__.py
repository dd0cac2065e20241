"""Networks that are trained for what a small file keeps: quantization-aware, pruned, clustered."""
