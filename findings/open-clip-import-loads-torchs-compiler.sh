#!/usr/bin/env bash
# open_clip 3.3.0 with torchvision: importing it imports torch's compiler (torch._dynamo, torch._inductor) and sympy.
# One would guess: a model library imports torch, and the compiler comes with the first torch.compile.
# Seen: `import torch` alone leaves all three out; `import open_clip` brings them in, by way of torchvision.ops, whose
# roi_align asks the compiler whether it is supported, and takes more processor seconds than `import torch`.
# A process that only reads settings, draws tables or waits for others should not import open_clip at module level.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "torch==2.15.0" "torchvision==0.29.2" "open_clip_torch==3.3.0"
cat >"$folder/run.py" <<'PYTHON'
import sys
import time

COMPILER = ("torch._dynamo", "torch._inductor", "sympy")

started = time.process_time()
import torch

alone = time.process_time() - started
before = [name for name in COMPILER if name in sys.modules]
started = time.process_time()
import open_clip

more = time.process_time() - started
after = [name for name in COMPILER if name in sys.modules]
print(f"torch {torch.__version__}, open_clip {open_clip.__version__}")
print(f"after torch: {before}, {alone:.1f} s of a processor; after open_clip: {after}, {more:.1f} s more")
sys.exit(0 if not before and after == list(COMPILER) else "this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/run.py"
