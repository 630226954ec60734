"""The `embed` job: the pure parts of this package with Ray and Delta Lake around them."""
