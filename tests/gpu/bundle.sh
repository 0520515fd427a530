#!/bin/sh
# Copies GPU test programs and the shared libraries that they need, so that they run on a machine
# with a driver and little else:
#   bundle.sh <build directory> <bundle directory>
#   LD_LIBRARY_PATH=<bundle directory>/lib <bundle directory>/gpu_attend_test
set -eu
build=$1
bundle=$2
mkdir -p "$bundle/lib"
for program in tests/gpu/gpu_attend_test tests/bench/cuda/gpu_attend_bench; do
  cp "$build/$program" "$bundle/"
  strip "$bundle/$(basename "$program")"
  # The C library must be the machine's own.
  ldd "$build/$program" | awk '$3 ~ /^\// { print $3 }' |
    grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' |
    while read -r library; do cp -L "$library" "$bundle/lib/"; done
done
cp "$(dirname "$0")"/../bench/cuda/*.py "$bundle/"
