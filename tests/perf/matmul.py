"""How fast this machine multiplies matrices: the rate that the useful work of an engine is compared with.

    python tests/perf/matmul.py --threads 2 --dtype bfloat16

prints the best rate over square products of size 1024 to 4096, in GFLOP/s (2 n**3 operations a product).
"""

import argparse
import time

import torch

SIZES = (1024, 2048, 4096)

REPEATS = 3
"""Products timed of each size; the first ones, which fill caches, do not count where a later one is faster."""


def rate(dtype: torch.dtype) -> float:
    """Returns the rate of the fastest of the products, in operations per second, with the threads that are set."""
    best = 0.0
    for size in SIZES:
        left, right = torch.randn(2, size, size).to(dtype)
        product = torch.empty_like(left)
        for _ in range(REPEATS):
            start = time.perf_counter()
            torch.mm(left, right, out=product)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def main() -> None:
    """Prints the rate."""
    parser = argparse.ArgumentParser(description="Best rate of square matrix products.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{rate(getattr(torch, options.dtype)) / 1e9:.1f} GFLOP/s")


if __name__ == "__main__":
    main()
