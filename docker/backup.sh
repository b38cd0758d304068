#!/bin/sh
# Databases, artifacts and work folder into a new folder: docker/backup.sh FOLDER
# The worker stops meanwhile, so that all parts are of one moment; runs go on from their checkpoints.
set -eu

folder=${1:?Name a new folder for the backup.}
umask 077
mkdir "$folder"
compose() { docker compose --project-directory "$(dirname "$0")" "$@"; }

running=$(compose ps --services --status running | grep -E '^(worker|worker-cpu)$' || true)
# shellcheck disable=SC2086 # no worker, or one
[ -z "$running" ] || compose stop --timeout 120 $running
for database in prefect mlflow mlflow_users; do
  compose exec -T postgres pg_dump --username postgres --format custom "$database" \
    > "$folder/$database.dump"
done
compose exec -T mlflow tar --create --directory /app/artifacts . > "$folder/artifacts.tar"
compose run --rm --no-deps -T --entrypoint tar cli --create --exclude .shared --directory /app/work . \
  > "$folder/work.tar"
# shellcheck disable=SC2086
[ -z "$running" ] || compose start $running
(cd "$folder" && sha256sum -- *.dump *.tar > SHA256SUMS)
sync # a power cut within half a minute would leave empty files otherwise
echo "The backup is in $folder. It holds the cohort store: treat it as patients' data."
