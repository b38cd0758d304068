#!/bin/sh
# Make the passwords that are not there yet, each in a file: docker/secrets.sh [FOLDER]
# Only the folder's owner gets to the files; inside the containers every user may read its own:
# Docker mounts them read-only with the mode that they have here, and their user is another one.
set -eu

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
for name in postgres prefect_database mlflow_database prefect worker mlflow mlflow_key; do
  if [ ! -s "$folder/$name" ]; then
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$folder/$name.new"
    chmod 444 "$folder/$name.new"
    mv "$folder/$name.new" "$folder/$name"
    echo "Made $folder/$name."
  fi
done
