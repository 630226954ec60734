"""One verb per file, run as `python -m jobs.VERB CONF.yaml [section.key=value ...]`."""
