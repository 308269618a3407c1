#!/usr/bin/env bash
# torchdistill 1.1.5 (August 2026), torch 2.13.0: two of its losses beside the formulas that their docstrings name.
#
# 1. KDLoss, documented as alpha * CE + (1 - alpha) * tau^2 * KL, with beta in the place of 1 - alpha.
#    Expected at alpha = 0 (distillation alone), beta = 1, tau = 2: 4 * KL.
#    Seen: KL. With alpha = 0, or without targets, it returns the bare divergence: neither tau^2 nor beta counts, so that
#    a temperature of 2 learns at a quarter of the strength, and beta = 0.5 is the same as beta = 5. At alpha = 1e-9 it is
#    what is documented. LogitStdKDLoss is written the same way.
# 2. SPKDLoss, similarity-preserving distillation (Tung and Mori 2019: rows of the similarity matrix divided by their
#    length, L2).
#    Expected: |G_S / |G_S|_2 - G_T / |G_T|_2|_F^2 / b^2, row by row.
#    Seen: rows divided by the sum of their absolute values (L1): torch's normalize(x, 1) reads 1 as p, not as the
#    dimension. For 12 points of width 16 the value is about a sixth, and the paper's weight of 3,000 no longer fits.
#
# What follows: compare a rival's numbers with its formula before its weights are taken over.
#
# torchvision is replaced by an empty module: these losses do not use it, and its wheel must match torch's build.
# Output seen:
#   KD alpha=0 beta=1 tau=2: 1.889272 documented 7.557087
#   KD alpha=0 beta=5 tau=2: 1.889272 documented 37.785439
#   KD alpha=1e-09 beta=1 tau=2: 7.557087 documented 7.557087
#   SP 0.009599 by L1 0.009599 by L2 0.057276
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 PyYAML==6.0.3 scipy==1.17.1
"$folder/venv/bin/pip" install -q --no-deps torchdistill==1.1.5
cat >"$folder/losses.py" <<'PYTHON'
import importlib.machinery
import sys
import types


class Empty(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        module.__path__ = []


sys.meta_path.insert(0, Finder())

import torch
from torch.nn import functional
from torchdistill.losses.mid_level import KDLoss, SPKDLoss

torch.manual_seed(0)
student, teacher, targets = 3 * torch.randn(6, 20), 3 * torch.randn(6, 20), torch.randint(20, (6,))
divergence = functional.kl_div(
    (student / 2).log_softmax(1), (teacher / 2).log_softmax(1), reduction="batchmean", log_target=True
)


def outputs(values):
    return {"m": {"output": values}}


found = {}
for alpha, beta in ((0.0, 1.0), (0.0, 5.0), (1e-9, 1.0)):
    loss = KDLoss("m", "output", "m", "output", temperature=2.0, alpha=alpha, beta=beta)
    found[alpha, beta] = float(loss(outputs(student), outputs(teacher), targets))
    print(f"KD alpha={alpha:g} beta={beta:g} tau=2: {found[alpha, beta]:.6f} documented {beta * 4 * divergence:.6f}")
mine, theirs = torch.randn(12, 16), torch.randn(12, 16)
loss = SPKDLoss(student_output_path="m", teacher_output_path="m", reduction="batchmean")
value = float(loss(outputs(mine), outputs(theirs)))
by = {
    p: float((functional.normalize(mine @ mine.T, p=p) - functional.normalize(theirs @ theirs.T, p=p)).square().sum())
    / 144
    for p in (1, 2)
}
print(f"SP {value:.6f} by L1 {by[1]:.6f} by L2 {by[2]:.6f}")


def near(a, b):
    return abs(a - b) < 1e-4 * abs(b)


same = (
    near(found[0.0, 1.0], float(divergence))
    and near(found[0.0, 5.0], float(divergence))
    and near(found[1e-9, 1.0], 4 * float(divergence))
    and near(value, by[1])
    and not near(value, by[2])
)
sys.exit(0 if same else "torchdistill behaves otherwise than when this was written")
PYTHON
"$folder/venv/bin/python" "$folder/losses.py"
