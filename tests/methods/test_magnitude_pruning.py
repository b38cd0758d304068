CONTRACT = {"sparsity": 0.5}
