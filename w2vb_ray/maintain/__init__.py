"""The `maintain` job: looks after the tables that `embed` fills. Knows no Ray."""
