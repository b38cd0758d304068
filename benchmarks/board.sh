#!/bin/sh
# Make the committed board: simulated patients and Fashion-MNIST, at equal budgets.
# Usage: benchmarks/board.sh WORK FASHION_MNIST   (a new folder; the folder of the .gz files)
set -eu
work=$1
images=$2
here=$(dirname "$0")
mimic-reg synthesize --out "$work/raw" --patients 3000 --quiet
mimic-reg run --source "$work/raw" --out "$work" --config board_simulated
mimic-reg run --source "$images" --out "$work" --config board_images
mimic-reg board "$work" --out "$here/results"
