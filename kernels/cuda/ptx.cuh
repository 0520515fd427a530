// The machine instructions that the kernels use and C++ has no words for.
#ifndef KVATTEND_KERNELS_CUDA_PTX_CUH_
#define KVATTEND_KERNELS_CUDA_PTX_CUH_

#include <cstdint>

namespace kvattend::cuda {

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// c += a * b: a 16 x 32 int8 by rows, b 32 x 8 int8 by columns, c 16 x 8 int32.
__device__ __forceinline__ void MultiplyInt8(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c += a * b: a 16 x 16 float16, b 16 x 8 float16, c 16 x 8 float32.
__device__ __forceinline__ void MultiplyHalf(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                             uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// 2^x to about 2^-22; 0 for -infinity.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ uint32_t Permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
  return d;
}

// x >> kBits, as an instruction that the compiler does not merge with others.
template <int kBits>
__device__ __forceinline__ uint32_t ShiftRight(uint32_t x) {
  uint32_t y;
  asm("shr.u32 %0, %1, %2;" : "=r"(y) : "r"(x), "n"(kBits));
  return y;
}
__device__ __forceinline__ uint32_t MultiplyAdd(uint32_t x, uint32_t y, uint32_t z) {
  uint32_t d;
  asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(x), "r"(y), "r"(z));
  return d;
}

// Loads by 32-bit shared address: what C++ makes of pointers costs more instructions. This one is
// ordered with the other volatile statements, copies and barriers among them.
template <int kOffset>
__device__ __forceinline__ uint32_t LoadShared(uint32_t address) {
  uint32_t x;
  asm volatile("ld.shared.u32 %0, [%1+%2];" : "=r"(x) : "r"(address), "n"(kOffset));
  return x;
}
template <int kOffset>
__device__ __forceinline__ uint2 LoadSharedPair(uint32_t address) {
  uint2 x;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2+%3];"
               : "=r"(x.x), "=r"(x.y)
               : "r"(address), "n"(kOffset));
  return x;
}
// Of tables that do not change: free to move.
__device__ __forceinline__ uint2 LoadSelectors(uint32_t address) {
  uint2 x;
  asm("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"(address));
  return x;
}

// Lets the next kernel of the stream start to be placed; it waits with WaitForPrevious before it
// reads anything that this kernel writes.
__device__ __forceinline__ void LaunchDependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void WaitForPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// A copy in flight from global to shared memory of one warp, awaited by that warp. On Hopper one
// lane starts a bulk copy that reports to a barrier in shared memory; before Hopper every lane
// copies its 16-byte pieces.
class WarpCopy {
 public:
  // Called by all lanes of the warp before the first Start. `barrier` is the warp's own.
  __device__ __forceinline__ explicit WarpCopy(uint64_t* barrier)
      : barrier_(SharedAddress(barrier)) {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier_) : "memory");
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();
#endif
  }

  // All lanes call it, after they all have read what `destination` held before. Addresses and
  // `size_bytes` are multiples of 16.
  __device__ __forceinline__ void Start(void* destination, const void* source, int size_bytes) {
    __syncwarp();
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x % 32 == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_),
                   "r"(size_bytes)
                   : "memory");
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
          "[%3];" ::"r"(SharedAddress(destination)),
          "l"(source), "r"(size_bytes), "r"(barrier_)
          : "memory");
    }
#else
    for (int offset = threadIdx.x % 32 * 16; offset < size_bytes; offset += 32 * 16) {
      asm volatile(
          "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(destination) + offset),
          "l"(static_cast<const char*>(source) + offset)
          : "memory");
    }
#endif
  }

  // Waits for the oldest copy that was started and not awaited. All lanes call it.
  __device__ __forceinline__ void Wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n.reg .pred done;\nretry:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra retry;\n}" ::"r"(
            barrier_),
        "r"(phase_)
        : "memory");
    phase_ ^= 1;
#else
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncwarp();
#endif
  }

 private:
  uint32_t barrier_;
  uint32_t phase_ = 0;
};

}  // namespace kvattend::cuda

#endif  // KVATTEND_KERNELS_CUDA_PTX_CUH_
