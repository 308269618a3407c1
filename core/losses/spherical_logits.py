def spherical_logits_loss(student, teacher, *, temperature):
    raise NotImplementedError
