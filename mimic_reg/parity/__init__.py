"""The published benchmark's own files: write them, prove them, compare with them, read them.

Source: YerevaNN/mimic3-benchmarks (Harutyunyan et al. 2019, MIT licence).
"""
