"""Serve a model file with llama.cpp's own HTTP server.

Run by the Python of an environment that has `xllamacpp`.

`python llama_cpp_server.py MODEL PORT CONTEXT SLOTS [KEY]`: the context is shared by the slots;
with a key, only its bearer is answered.
"""

from __future__ import annotations

import signal
import sys

import xllamacpp

path, port, context, slots, *keys = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = path
params.port = int(port)
params.n_ctx = int(context)
params.n_parallel = int(slots)
params.n_gpu_layers = 0
params.fit_params = False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = (
    1  # its threads wait for each other by spinning: slow on a busy machine
)
params.api_keys = keys
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)  # noqa: T201 - for the log
signal.pause()
