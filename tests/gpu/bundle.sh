#!/bin/sh
# Copies the GPU's test programs, benchmarks and the server with the shared libraries that they need,
# so that they run on a machine with a driver and little else:
#   bundle.sh <build directory> <bundle directory>
#   <bundle directory>/run.sh
set -eu
build=$1
bundle=$2
here=$(dirname "$0")
mkdir -p "$bundle/lib" "$bundle/tests/data"
for program in tests/gpu/gpu_attend_test tests/gpu/gpu_compress_test tests/gpu/gpu_fault_test \
  tests/kernels/cuda/cuda_conformance_test tests/bench/cuda/gpu_attend_bench \
  tests/bench/cuda/gpu_codec_bench server/kvattend-server client/cli/kvattend; do
  cp "$build/$program" "$bundle/"
  strip "$bundle/$(basename "$program")"
  # The C library must be the machine's own.
  ldd "$build/$program" | awk '$3 ~ /^\// { print $3 }' |
    grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' |
    while read -r library; do cp -L "$library" "$bundle/lib/"; done
done
# What `kvattend replay` replays.
cp -r "$here/../data/golden" "$bundle/tests/data/"
cp "$here/run.sh" "$here"/../bench/cuda/*.py "$bundle/"
