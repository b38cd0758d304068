CONTRACT = {"weight": 2.0}
