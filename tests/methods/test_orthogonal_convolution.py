CONTRACT = {"weight": 0.1}
MODEL = {"cnn": {"filters": [3], "dense": 6}}
