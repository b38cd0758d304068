CONTRACT = {"share": 0.5}
MODEL = {"cnn": {"filters": [3], "dense": 6}}
