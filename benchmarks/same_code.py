"""Let trials of an earlier commit count as finished, after a change that computes the same bits.

    python benchmarks/same_code.py COMMIT [EXPERIMENT.yaml ...]

A trial's identity has a hash of the code that decides its result, so a refactoring of the engine
would train every trial again. Where its scores, weights and predictions were compared bit by bit
with those of COMMIT, this writes the hashes of both to mimic_reg/experiments/resources/
same_code.json: for every trial of configs/experiments, and of the experiments that are named.
Run it again after the next such change; entries of other code then go.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAME = ROOT / "mimic_reg" / "experiments" / "resources" / "same_code.json"
LIST = """
import json, sys
from mimic_reg.experiments import load, plan
from mimic_reg.experiments.identity import code_of
print(json.dumps({p.trial.id(""): code_of(p.trial) for e in sys.argv[1:] for p in plan(load(e))}))
"""


def codes(root: Path, experiments: list[Path]) -> dict[str, str]:
    """Return trial → the hash of its code, by the package in a folder."""
    command = [sys.executable, "-c", LIST, *map(str, experiments)]
    done = subprocess.run(command, cwd=root, env={"PYTHONPATH": str(root)}, check=True, stdout=-1)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def main() -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("experiments", nargs="*", type=Path)
    given = parser.parse_args()
    experiments = sorted((ROOT / "configs" / "experiments").glob("*.yaml"))
    experiments += [path.resolve() for path in given.experiments]
    SAME.write_text("{}\n")
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["git", "-C", str(ROOT), "archive", given.commit], check=True, stdout=-1
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        before, now = codes(Path(folder), experiments), codes(ROOT, experiments)
    same = {now[trial]: before[trial] for trial in now.keys() & before.keys()}
    same = {new: old for new, old in sorted(same.items()) if new != old}
    SAME.write_text(json.dumps(same, indent=1) + "\n")
    print(f"{len(now)} trials, {len(now.keys() - before.keys())} new; {len(same)} hashes of code.")


if __name__ == "__main__":
    main()
