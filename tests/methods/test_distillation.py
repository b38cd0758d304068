CONTRACT = {"weight": 0.5}
