"""Logit distillation on a sphere: the direction of the logits without their length, which is confidence."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from core.geometry import on_sphere


def spherical_logits_loss(
    student: Float[Tensor, "tokens vocabulary"],
    teacher: Float[Tensor, "tokens vocabulary"],
    *,
    temperature: float,
    radius: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Return temperature^2 times the mean KL(teacher || student) of logits on one sphere, in nats per valid token.

    Each side's logits of a token are centred and scaled to the same length, the mean length of the teacher's: Guo et
    al. 2020, arXiv 2010.07485. The paper takes that mean over the data, this loss over the points that it compares.
    The paper's cross-entropy reads the scaled logits as well; here cross-entropy is a term of its own and reads raw
    ones, as the student that is deployed does.

    Args:
        student: Raw logits of valid token points; their length does not count.
        teacher: Raw logits of the same points; no gradient flows into them. Their mean length is the radius.
        temperature: Divides both sides' scaled logits; 1 leaves them.
        radius: Where these are a part of a batch, the mean length over the whole of it.
    """
    student_centred, teacher_centred = _centred(student.float()), _centred(teacher.detach().float())
    radius = mean_length(teacher) if radius is None else radius
    student_log = functional.log_softmax(radius * on_sphere(student_centred) / temperature, dim=-1)
    teacher_log = functional.log_softmax(radius * on_sphere(teacher_centred) / temperature, dim=-1)
    divergence = functional.kl_div(student_log, teacher_log, reduction="sum", log_target=True)
    # Where the sides are equal to the last digit, rounding may leave a little less than nothing.
    return temperature**2 * divergence.clamp_min(0) / student.shape[0]


def mean_length(teacher: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, ""]:
    """Return the mean length of centred logits, without gradient."""
    return _centred(teacher.detach().float()).norm(dim=-1).mean()


def _centred(logits: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, "tokens vocabulary"]:
    return logits - logits.mean(dim=-1, keepdim=True)
