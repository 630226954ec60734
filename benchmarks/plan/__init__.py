"""How planning grows with the corpus; see `__main__`."""
