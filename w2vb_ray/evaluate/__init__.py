"""Is what a checkpoint gives good enough? Knows no Ray and no tables."""
