CONTRACT = {"share": 0.6}
