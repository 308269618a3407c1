#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): the same samples written twice as Ogg Opus or Ogg Vorbis.
#
# Expected: the same bytes, as for WAV and FLAC, since encoder, samples and settings are the same.
# Seen: other bytes each time, because every Ogg stream gets a random serial number, which stands in each page and in its
#    checksum. What is decoded is the same, sample for sample.
#
# What follows: a SHA-256 of the file is no identity of speech that is kept as Ogg. A data set that is made again has other
# sums although nothing changed, and clips that were written twice are not found as duplicates. Compare decoded samples,
# or set the serial number and the checksums of the pages after writing (RFC 3533, section 6).
#
# Output seen:
#   WAV PCM_16: the same bytes, the same samples
#   FLAC PCM_16: the same bytes, the same samples
#   OGG VORBIS: other bytes, the same samples
#   OGG OPUS: other bytes, the same samples
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q soundfile==0.14.0 numpy==2.4.6
cat >"$folder/write.py" <<'PYTHON'
import io

import numpy as np
import soundfile

tone = 0.5 * np.sin(np.arange(16_000) / 20)
expected = {("WAV", "PCM_16"): True, ("FLAC", "PCM_16"): True, ("OGG", "VORBIS"): False, ("OGG", "OPUS"): False}


def written(form, kind):
    file = io.BytesIO()
    soundfile.write(file, tone, 16_000, format=form, subtype=kind)
    return file.getvalue()


for (form, kind), alike in expected.items():
    one, other = written(form, kind), written(form, kind)
    samples = np.array_equal(*(soundfile.read(io.BytesIO(each))[0] for each in (one, other)))
    print(f"{form} {kind}: {'the same' if one == other else 'other'} bytes, {'the same' if samples else 'other'} samples")
    assert (one == other, samples) == (alike, True), "this has changed"
PYTHON
"$folder/venv/bin/python" "$folder/write.py"
