"""Times PyTorch's dense float16 attention (flash and cuDNN) on the shapes of gpu_attend_bench.

Prints a CSV line for each shape: backend, batch, tokens, query heads, KV heads, median milliseconds.
"""

import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SHAPES = [
    (8, 32768, 32, 8), (8, 4096, 32, 8), (1, 131072, 32, 8), (32, 8192, 32, 8),
    (8, 32768, 8, 8), (32, 4096, 32, 8), (1, 8192, 32, 8), (64, 2048, 64, 8),
]
HEAD_DIM = 128
L2_BYTES = 60 << 20
RUNS = 15


def measure(batch, tokens, query_heads, kv_heads, backend):
    bytes_a_set = 4 * batch * tokens * kv_heads * HEAD_DIM
    sets = max(1, min(4, -(-4 * L2_BYTES // bytes_a_set)))

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float16, device="cuda")

    data = [(random(batch, query_heads, 1, HEAD_DIM), random(batch, kv_heads, tokens, HEAD_DIM),
             random(batch, kv_heads, tokens, HEAD_DIM)) for _ in range(sets)]
    times = []
    with sdpa_kernel(backend):
        for i in range(RUNS + 3):
            q, k, v = data[i % sets]
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(200000)  # the launch then waits in the queue: no time of the host's
            begin.record()
            torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
    return statistics.median(times[3:])


for shape in SHAPES:
    for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
        try:
            print(f"dense-{name},{','.join(map(str, shape))},{measure(*shape, backend):.4f}", flush=True)
        except RuntimeError as error:
            print(f"dense-{name},{','.join(map(str, shape))},failed: {str(error)[:60]}", flush=True)
