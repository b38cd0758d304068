CONTRACT = {"sigma": 4.0}
