CONTRACT = {"weight": 1.0}
