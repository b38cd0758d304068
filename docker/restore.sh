#!/bin/sh
# Put a backup back, over what is there: docker/restore.sh FOLDER
set -eu

folder=${1:?Name the folder of the backup.}
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
compose() { docker compose --project-directory "$(dirname "$0")" "$@"; }

compose stop
compose up --detach --wait postgres
for database in prefect mlflow mlflow_users; do
  compose exec -T postgres pg_restore --username postgres --dbname postgres \
    --clean --if-exists --create --exit-on-error < "$folder/$database.dump"
done
for part in work artifacts; do
  service=cli
  [ "$part" = work ] || service=mlflow
  # the old content goes first: what a later version added must not stay
  compose run --rm --no-deps -T --entrypoint sh "$service" -c \
    "find /app/$part -mindepth 1 -delete && tar --extract --directory /app/$part" \
    < "$folder/$part.tar"
done
sync
compose up --detach
echo "The backup of $folder is back."
