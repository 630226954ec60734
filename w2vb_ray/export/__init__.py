"""Checkpoint in, smaller and faster artifact out, with a gate on its accuracy."""
