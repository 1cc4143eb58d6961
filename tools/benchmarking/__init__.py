"""Problems, baselines and measurements of the benchmarks of attention kernels and complete models."""
