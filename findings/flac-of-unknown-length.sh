#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): a FLAC file that does not say how long it is.
#
# The format allows it: total_samples is 0 where the encoder could not know, as when speech is encoded from a pipe
# (RFC 9639, section 8.2: "A value of 0 here means the number of total samples is unknown").
# Expected: soundfile.read returns the samples, as it does where the number stands in the header.
# Seen: the file opens, its length is given as 2^63 - 1 frames, and soundfile.read raises ValueError (an array too big).
#    SoundFile.read(n) reads n samples as they are: what is missing is only an end to allocate for.
#
# What follows: read such files by blocks until one comes back short, and never size a buffer or a progress bar, nor
# judge a clip's length, by `frames` alone.
#
# Output seen:
#   told: 16000 frames, read: 16000
#   untold: 9223372036854775807 frames, read: ValueError, first 1000 by SoundFile.read: the same samples
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q soundfile==0.14.0 numpy==2.4.6
cat >"$folder/read.py" <<'PYTHON'
import sys

import numpy as np
import soundfile

told, untold = f"{sys.argv[1]}/told.flac", f"{sys.argv[1]}/untold.flac"
tone = 0.5 * np.sin(np.arange(16_000) / 20)
soundfile.write(told, tone, 16_000, format="FLAC", subtype="PCM_16")
content = bytearray(open(told, "rb").read())
# 36 bits of STREAMINFO, which is the first block of the file: the lower half of byte 21, and the four after it.
content[21] &= 0xF0
content[22:26] = bytes(4)
open(untold, "wb").write(content)


def read(path):
    try:
        return str(len(soundfile.read(path)[0]))
    except ValueError:
        return "ValueError"


first = soundfile.SoundFile(untold).read(1000)
same = np.array_equal(first, soundfile.read(told)[0][:1000])
print(f"told: {soundfile.SoundFile(told).frames} frames, read: {read(told)}")
print(f"untold: {soundfile.SoundFile(untold).frames} frames, read: {read(untold)}, "
      f"first 1000 by SoundFile.read: {'the same samples' if same else 'others'}")
assert (read(told), read(untold), same) == ("16000", "ValueError", True), "this has changed"
assert soundfile.SoundFile(untold).frames == 2**63 - 1, "this has changed"
PYTHON
"$folder/venv/bin/python" "$folder/read.py" "$folder"
