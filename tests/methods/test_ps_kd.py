CONTRACT = {"alpha": 0.8}
