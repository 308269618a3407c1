def standardised_logits_loss(student, teacher, *, temperature):
    raise NotImplementedError
