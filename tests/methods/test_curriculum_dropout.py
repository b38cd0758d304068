CONTRACT = {"rate": 0.3}
