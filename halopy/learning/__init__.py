"""What models that learn share, whatever they learn: their input, views of it, threads, the optimiser, checkpoints."""
