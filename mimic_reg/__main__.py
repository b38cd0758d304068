"""`python -m mimic_reg`: the command `mimic-reg`."""

from mimic_reg.cli import main

if __name__ == "__main__":
    main()
