def dkd_loss(student, teacher, targets, *, target_weight, other_weight, temperature):
    raise NotImplementedError
