"""The stages of the pipeline, each a plain function; the commands call them."""
