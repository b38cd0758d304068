"""How engines make a fit: one for a single task, or several for tasks that share a trunk."""
