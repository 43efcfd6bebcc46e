"""``make validate``: figures of the models and of the post-processing against what is known."""
