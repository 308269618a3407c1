"""What runs and jobs are expected to take."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """What a run will take, from some real steps of it on the real device, before it starts.

    Attributes:
        device: Where the steps were made, in words.
        steps: Steps that were timed, of the `step_seconds` median.
        step_seconds: One training step.
        training_seconds: All training steps.
        run_seconds: Training, development sets, probes, and the test sets at the end.
        shared_seconds: What the job of the run does once for all its runs: models, speech, the teacher's pass over it,
            and the error rates of teacher and student before.
        transcribe_seconds: Transcribing one utterance with the student at the evaluation context.
        peak_memory: Largest memory while it trains, in bytes: of the process on a CPU, of PyTorch's on CUDA.
        memory_free: What the device had to give, in bytes.
        listening_memory: The same while the teacher listens to the largest set that is transcribed.
        audio_bytes: Disk for audio that is still to be made.
        teacher_state_bytes: Disk for the teacher's states of the probe.
        adapter_bytes: Disk for the run's best and last adapters.
        state_bytes: Disk for the run's states of the probe.
        disk_free: Where the runs are kept, in bytes.
        busy: Whether a job was at work meanwhile, so that the times are too long.
        devices: Over how many devices its job may be spread; a CPU stands for as many as were asked for.
        parts: How many of them train it together, where it is the only run of its group.
    """

    device: str
    steps: int
    step_seconds: float
    training_seconds: float
    run_seconds: float
    shared_seconds: float
    transcribe_seconds: float
    peak_memory: int
    listening_memory: int
    memory_free: int
    audio_bytes: int
    teacher_state_bytes: int
    adapter_bytes: int
    state_bytes: int
    disk_free: int
    busy: bool
    devices: int = 1
    parts: int = 1


@dataclass(frozen=True)
class JobEstimate:
    """What a whole job will take.

    Attributes:
        seconds: From its start to its end.
        memory: The largest of any of its parts, in bytes, of `memory_free`.
        disk: All that it writes, in bytes, of `disk_free`.
    """

    seconds: float
    memory: int
    memory_free: int
    disk: int
    disk_free: int

    def __add__(self, later: "JobEstimate") -> "JobEstimate":
        """Return what two groups of runs take, one after the other."""
        return JobEstimate(
            seconds=self.seconds + later.seconds,
            memory=max(self.memory, later.memory),
            memory_free=self.memory_free,
            disk=self.disk + later.disk,
            disk_free=self.disk_free,
        )

    @classmethod
    def of(cls, runs: Sequence[Estimate]) -> "JobEstimate":
        """Add up the runs of a group; what they share counts once.

        Several GPUs share its time; several processes of one CPU share its cores, and each needs memory of its own.
        They share the steps of a single run; what they say to each other is left out.
        """
        first = runs[0]
        shares = min(first.devices, len(runs)) if len(runs) > 1 else first.parts
        seconds, training = sum(run.run_seconds for run in runs), max(run.peak_memory for run in runs)
        if first.device == "CPU":
            training *= shares
            if len(runs) == 1:
                # The first process measures, with its own share of the threads, while the others wait.
                seconds += (seconds - first.training_seconds) * (shares - 1)
        elif len(runs) > 1:
            seconds = max(seconds / shares, *(run.run_seconds for run in runs))
        else:
            seconds -= first.training_seconds * (1 - 1 / shares)
        return cls(
            seconds=max(run.shared_seconds for run in runs) + seconds,
            memory=max(training, *(run.listening_memory for run in runs)),
            memory_free=first.memory_free,
            disk=first.audio_bytes
            + first.teacher_state_bytes
            + sum(run.adapter_bytes + run.state_bytes for run in runs),
            disk_free=first.disk_free,
        )
