#!/bin/sh
# Everything that Python needs in one folder, for a machine without any package registry:
#   docker/wheelhouse.sh cuda|cpu [FOLDER]    # default: docker/wheelhouse/VARIANT, which the image uses
# The wheels are for the image's Python 3.11 on Linux, whatever this machine has.
# Other variables: DEV=1, also what `make dev` installs, for the tests; ARCH (x86_64 or aarch64);
# TORCH_CPU_INDEX_URL, a mirror of PyTorch's index.
set -eu

variant=${1:-}
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${2:-$here/docker/wheelhouse/$variant}
folder=${folder%/}
python=${PYTHON:-python3}
arch=${ARCH:-$(uname -m)}
case "$variant" in
  cuda) index=${PIP_INDEX_URL:-https://pypi.org/simple} ;;
  cpu) index=${TORCH_CPU_INDEX_URL:-https://download.pytorch.org/whl/cpu} ;;
  *) echo "The variant is '$variant'; it must be cuda or cpu." >&2; exit 2 ;;
esac
if [ -e "$folder" ]; then
  echo "$folder exists; remove it, or name another folder." >&2
  exit 2
fi

new=$folder.new
rm -rf "$new"
mkdir -p "$new"
minor=36 # glibc of Debian 12
set -- --platform "manylinux2014_$arch"
while [ "$minor" -ge 17 ]; do
  set -- "$@" --platform "manylinux_2_${minor}_$arch"
  minor=$((minor - 1))
done
download() { # FILE OPTION…
  cp "$here/docker/$1" "$new/"
  # markers are left out: pip would read them for the Python that runs it
  sed -E 's/ ; [^\\]+//' "$new/$1" > "$new/without-markers"
  shift
  "$python" -m pip download --disable-pip-version-check --quiet --require-hashes --no-deps \
    --only-binary :all: --python-version 3.11 --implementation cp --dest "$new" \
    --requirement "$new/without-markers" "$@"
}
download "requirements-$variant.txt" --index-url "$index" "$@"
download requirements.txt "$@"
[ -z "${DEV:-}" ] || download requirements-dev.txt "$@"
rm "$new/without-markers"
# of a copy: a build in place would pack what an earlier one left
mkdir "$new/source"
(cd "$here" && cp -R LICENSE MANIFEST.in README.md configs mimic_reg pipelines pyproject.toml setup.py \
  "$new/source/")
"$python" -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir "$new" "$new/source"
rm -r "$new/source"
(cd "$new" && sha256sum -- * > SHA256SUMS)
sync
mv --no-target-directory "$new" "$folder"
echo "$(du -sh "$folder" | cut -f1) in $folder"
