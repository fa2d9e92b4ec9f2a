"""Published figures of devices and clusters that the scaling tables start from, each with where it was read.

Nothing is computed here. A figure without a published source is marked as assumed.
"""

from dataclasses import dataclass

# What a collective reaches of a link's rate, and what each hop of one costs at the start. Both assumed.
LINK_SHARE = 0.8
HOP_S = 20e-6
# What training may use of a device's memory; the rest is the allocator's and the driver's. Assumed.
MEMORY_SHARE = 0.85
# Interruptions of Llama 3's pretraining: 466 in 54 days on 16,384 devices (arXiv 2407.21783, section 3.3.4).
INTERRUPTIONS_PER_DEVICE_DAY = 466 / (54 * 16384)
# A sample of LAION-400M as img2dataset writes it at 256 x 256: 10 TB for 413 million (laion.ai, LAION-400M).
SAMPLE_BYTES = 10e12 / 413e6


@dataclass(frozen=True)
class Device:
    """One rank's share of a cluster.

    Attributes:
        name: as the tables show it.
        domain: ranks that the fast links join.
        tflops: dense bfloat16 peak, 1e12 operations a second.
        utilisation: share of the peak that CLIP training reaches.
        memory_gb: device memory, 1e9 bytes.
        fast_gbs: one way between ranks of a domain, 1e9 bytes a second for each rank.
        slow_gbs: one way between domains, 1e9 bytes a second for each rank.
        source: where the figures were read.
        source_zh: the same in Chinese.
    """

    name: str
    domain: int
    tflops: float
    utilisation: float
    memory_gb: float
    fast_gbs: float
    slow_gbs: float
    source: str
    source_zh: str


DEVICES = (
    Device(
        "Ascend 910B",
        8,
        313,
        0.30,
        64,
        196,
        25,
        "third-party tables of the Atlas 800T A2 (910B3; HCCS 392 GB/s both ways, RoCE 200 Gb/s): Huawei's own sheet "
        "was not at hand; utilisation assumed",
        "第三方整理的 Atlas 800T A2 参数（910B3；HCCS 双向 392 GB/s，RoCE 200 Gb/s）：未见华为官方规格书；利用率为假设",
    ),
    Device(
        "Ascend 910C die",
        768,
        376,
        0.30,
        64,
        196,
        25,
        "arXiv 2506.12708 on CloudMatrix384: half of a two-die package (752 TFLOPS, 128 GB, UB 392 GB/s one way, RDMA "
        "400 Gb/s); utilisation assumed",
        "arXiv 2506.12708（CloudMatrix384）：双 die 封装的一半（752 TFLOPS、128 GB、UB 单向 392 GB/s、"
        "RDMA 400 Gb/s）；利用率为假设",
    ),
    Device(
        "A100 80 GB",
        8,
        312,
        0.39,
        80,
        300,
        25,
        "NVIDIA's data sheets of A100 and DGX A100 (NVLink 600 GB/s both ways, 200 Gb/s a GPU); utilisation from "
        "NeMo's CLIP g/14",
        "NVIDIA A100 与 DGX A100 规格书（NVLink 双向 600 GB/s，每 GPU 200 Gb/s）；利用率由 NeMo 的 CLIP g/14 推算",
    ),
    Device(
        "H100 80 GB",
        8,
        989,
        0.21,
        80,
        450,
        50,
        "NVIDIA's data sheets of H100 and DGX H100 (NVLink 900 GB/s both ways, 400 Gb/s a GPU); utilisation from "
        "NeMo's CLIP g/14",
        "NVIDIA H100 与 DGX H100 规格书（NVLink 双向 900 GB/s，每 GPU 400 Gb/s）；利用率由 NeMo 的 CLIP g/14 推算",
    ),
    Device(
        "H200 141 GB",
        8,
        989,
        0.21,
        141,
        450,
        50,
        "NVIDIA's data sheets of H200 and DGX H200; utilisation assumed to be H100's",
        "NVIDIA H200 与 DGX H200 规格书；利用率假设与 H100 相同",
    ),
)

# Samples a second of CLIP g/14 on 1, 2, 4, 8 and 16 nodes of 8 GPUs: NVIDIA NeMo user guide, CLIP performance.
NEMO_G14 = {"A100 80 GB": (559, 1115, 2190, 4407, 8633), "H100 80 GB": (935, 1795, 3502, 6771, 13829)}

# Measured on one core of a shared 2-core x86 server, 2026. Processor time to read, crop and resize a JPEG to 224 x 224
# bytes, one of 256 x 256 and 28 kB, and one of 500 x 375 and 79 kB; and to turn ten words seen before into ids.
IMAGE_MS, LARGE_IMAGE_MS, CAPTION_MS = 1.65, 3.09, 0.003
# Memory of one sample in a shard's index, for keys of nine characters. A test measures it again.
INDEX_BYTES = 57
# Peak memory of one epoch's order with a window, by number of samples; shards of 10,000. A test bounds it.
ORDER_MB = {10**6: 3.2, 10**7: 3.2, 10**8: 3.5, 4 * 10**8: 4.5, 2 * 10**9: 9.9}
