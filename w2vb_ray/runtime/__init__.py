"""What every job needs around its work: Ray, progress, the run folder, signals."""
