CONTRACT = {"weight": 0.01}
MODEL = {"dnn": {"hidden": [6, 4]}}
