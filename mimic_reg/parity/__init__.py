"""Write, verify, compare and import the files of the published benchmark.

Source: YerevaNN/mimic3-benchmarks (Harutyunyan et al. 2019, MIT licence).
"""
