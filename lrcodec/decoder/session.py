"""ONNX Runtime: its sessions, and what they give out."""

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from ..errors import UnsupportedError
from ..packs.pack import Pack
from ..runtime import thread_count

ort.disable_telemetry_events()  # of versions that do not know what runtime.py sets
# One arena for all sessions: else each would keep what the largest picture took that it ever drew. The arena keeps its
# first region. The others are given back after each run.
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
    ort.OrtArenaCfg({"initial_chunk_size_bytes": 96 * 2**20}),
)
RUN = ort.RunOptions()
RUN.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


def session_options(threads: int) -> ort.SessionOptions:
    """What sessions are told. threads: 0 for as many as the processors that this process may use."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes need the cores
    # Not ALL: it would pad the few channels of the convolutions to 8 or 16.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.enable_mem_pattern = False  # it would keep a plan for every size of picture
    options.log_severity_level = 4  # what goes wrong is raised, and takes one line
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


def open_session(pack: Pack, graph: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    """A session of one of the pack's graphs. Raises UnsupportedError if it is none."""
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many kinds, and documents none
        raise UnsupportedError(f"model {pack.name} has a broken graph: {error}") from None


def fetch(
    session: ort.InferenceSession,
    pack: Pack,
    name: str,
    inputs: Mapping[str, np.ndarray],
    dtype: type[np.generic],
    shape: tuple[int, ...],
) -> np.ndarray:
    """An output of one of the pack's graphs. Raises UnsupportedError unless it is of this dtype and shape."""
    try:
        output = session.run([name], inputs, RUN)[0]
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime raises many kinds, and documents none
        if "allocate memory" in str(error) or "bad_alloc" in str(error):
            raise MemoryError from None
        raise UnsupportedError(f"a graph of model {pack.name} failed: {error}") from None
    if (output.dtype, output.shape) != (dtype, shape):
        raise UnsupportedError(f"model {pack.name} has a broken graph: its {name} are of another size or type")
    return output
