#!/bin/sh
# Build the image without Docker and use it as a hospital would: read-only, as its own user, without
# a network. Needs root, buildah and debootstrap; half an hour on two cores, 8 GB.
#   benchmarks/image.sh FOLDER    # results: FOLDER/image.json
# Where torch's own index cannot be reached, TORCH_CPU_INDEX_URL and PIP_CONFIG name others; folders
# of wheels that this configuration names are handed to the build by WHEELS.
set -eu

folder=${1:?Name a folder for the build.}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$folder/tmp"
folder=$(cd "$folder" && pwd)
export TMPDIR="$folder/tmp"
base=localhost/python:3.11-slim
build() { buildah --root "$folder/store" --runroot "$folder/run" --storage-driver overlay "$@"; }

# Debian's Python in place of python:3.11-slim-bookworm, which is Debian, too
if [ ! -d "$folder/base/usr" ]; then
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    bookworm "$folder/base" > "$folder/debootstrap.log"
fi
if ! build images --quiet $base > /dev/null 2>&1; then
  container=$(build from scratch)
  build add --quiet "$container" "$folder/base" /
  build commit --quiet "$container" $base
  build rm "$container"
fi

mounts="--volume /etc/ssl/certs:/etc/ssl/certs:ro"
[ -z "${PIP_CONFIG:-}" ] || mounts="$mounts --volume $PIP_CONFIG:/etc/pip.conf:ro"
for wheels in ${WHEELS:-}; do mounts="$mounts --volume $wheels:$wheels:ro"; done
begun=$(date +%s)
# shellcheck disable=SC2086 # a list of options
build build --isolation chroot --layers --format docker --file "$here/docker/Dockerfile" \
  --ignorefile "$here/docker/Dockerfile.dockerignore" --build-arg VARIANT=cpu \
  --build-arg PYTHON_IMAGE=$base --build-arg REVISION="$(git -C "$here" rev-parse HEAD)" \
  --build-arg TORCH_CPU_INDEX_URL="${TORCH_CPU_INDEX_URL:-https://download.pytorch.org/whl/cpu}" \
  $mounts --tag mimic-reg:cpu "$here" > "$folder/build.log" 2>&1
built=$(date +%s)

container=$(build from mimic-reg:cpu)
root=$(build mount "$container")
export ROOT="$root"
mkdir -p "$folder/work" "$folder/tmpfs"
chown 10001:10001 "$folder/work" "$folder/tmpfs"
chmod 0700 "$folder/work"
export WORK="$folder/work" SPACE="$folder/tmpfs"

# one command in the image: its environment, user and working folder; nothing else to be written
in_image() {
  # shellcheck disable=SC2016 # for the shell within
  unshare --mount --net --propagation private sh -ec '
    mount --bind "$ROOT" "$ROOT"
    mount --bind "$WORK" "$ROOT/app/work"
    mount --bind "$SPACE" "$ROOT/tmp"
    mount -t proc proc "$ROOT/proc"
    mount --rbind /dev "$ROOT/dev"
    mount -o remount,bind,ro "$ROOT"
    exec chroot --userspec 10001:10001 --groups= "$ROOT" env -i $ENVIRONMENT \
      sh -c "cd /app && exec python -m mimic_reg_pipelines.deploy.container \"\$@\"" sh "$@"
  ' sh "$@"
}
ENVIRONMENT=$(build inspect --format '{{range .OCIv1.Config.Env}}{{.}} {{end}}' "$container")
export ENVIRONMENT

rm -rf "$folder/work/raw" "$folder/work/runs" "$folder/work/sweeps" "$folder/work/store"
in_image --version
in_image health
in_image synthesize --out work/raw --patients 300 --overwrite
in_image run --source work/raw --out work --config demo --workers 2 > "$folder/run.log" 2>&1
in_image predict --model 'models:/mimic-reg-mimic-iii-benchmark-simulated-in_hospital_mortality-lstm@champion' --work work \
  --store work/store --out work/predictions.parquet
ended=$(date +%s)
# nothing of root's, nothing that was not asked for, nothing written elsewhere
refused=$(in_image ui --work work --host 0.0.0.0 2>&1 || true)
owners=$(find "$folder/work" ! -user 10001 | wc -l)
open=$(find "$folder/work" -mindepth 1 -perm /077 | wc -l)
size=$(du -sm "$root" | cut -f1)
# shellcheck disable=SC2016 # for the shell in the image
setuid=$(find "$root" -xdev -perm /6000 -type f | wc -l)
build umount "$container" > /dev/null
build rm "$container" > /dev/null

cat > "$folder/image.json" <<JSON
{
 "date": "$(date -u +%F)",
 "what": "docker/Dockerfile, VARIANT=cpu, by buildah $(buildah --version | cut -d' ' -f3) on Debian 12's Python 3.11",
 "used": "as 10001:10001, root file system read-only, own network namespace without any interface up",
 "build_seconds": $((built - begun)),
 "image_megabytes": $size,
 "demo_seconds": $((ended - built)),
 "report_written": $(test -s "$folder/work/sweeps/demo/report.html" && echo true || echo false),
 "trials_finished": $(find "$folder/work/runs" -name done.json | wc -l),
 "predictions_written": $(test -s "$folder/work/predictions.parquet" && echo true || echo false),
 "files_of_other_owners": $owners,
 "files_that_others_may_read": $open,
 "setuid_files_of_the_base": $setuid,
 "wide_host_refused": $(echo "$refused" | grep -q 'only answers this machine' && echo true || echo false)
}
JSON
cat "$folder/image.json"
